"""Makes a failing graph small: ./dev reduce bad.graph 'build/bin/toroid compile --from=graph --to=loops'

The command, with a graph's path behind it, must fail; a smaller graph is kept where it fails with the same first line (numbers
and names aside). Tried in turn: an earlier node's value as the only result, nodes that nothing uses dropped, a node turned
into an input. The result is written beside the input, as bad.reduced.graph.
"""
import re
import shlex
import subprocess
import sys
import tempfile


class Graph:
    """header line, statements (one a line), and what is returned; other lines (specs) are dropped"""

    def __init__(self, head, body, result):
        self.head, self.body, self.result = head, body, result

    @staticmethod
    def parse(text):
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        returns = next(i for i, line in enumerate(lines) if line.startswith("return"))
        return Graph(lines[0], lines[1:returns], lines[returns])

    def text(self):
        return "\n".join([self.head, *("  " + line for line in self.body), "  " + self.result, "}"]) + "\n"

    def live(self):
        """without statements whose values nothing uses"""
        wanted, body = set(re.findall(r"%[\w.]+", self.result)), []
        for line in reversed(self.body):
            left, _, right = line.partition(" = ")
            names = re.findall(r"%[\w.]+", left)
            if line.startswith("guard") or wanted.intersection(names):
                body.insert(0, line)
                wanted.update(re.findall(r"%[\w.]+", right))
        # Inputs too: `(%a: f32[2], %b "user's name": f32[s0, 3])`, each from its % to the next.
        name, inputs, rest = re.fullmatch(r"([^(]*\()(.*)(\) where .*|\) \{)", self.head).groups()
        kept = [i for i in re.split(r", (?=%|int |constant )", inputs) if not i.startswith("%") or
                re.match(r"%[\w.]+", i).group() in wanted]
        return Graph(name + ", ".join(kept) + rest, body, self.result)

    def returning(self, i):
        """only what statement i gives"""
        name = re.findall(r"%[\w.]+", self.body[i].partition(" = ")[0])
        return Graph(self.head, self.body[: i + 1], f"return {name[0]}").live() if name else None

    def with_input(self, i):
        """statement i as an input of its type"""
        match = re.fullmatch(r"(%[\w.]+) = .*\) : (\w+\[[^\]]*\]).*", self.body[i])
        if not match:
            return None
        name, type_ = match.groups()
        head = re.sub(r"\(", f"({name}: {type_}, ", self.head, count=1).replace(", )", ")")
        return Graph(head, self.body[:i] + self.body[i + 1:], self.result).live()


def failure(command, text):
    """the first line of what it says, without numbers and names; None when it succeeds"""
    with tempfile.NamedTemporaryFile("w", suffix=".graph") as f:
        f.write(text)
        f.flush()
        done = subprocess.run([*command, f.name], capture_output=True, text=True)
    if not done.returncode:
        return None
    return re.sub(r"`[^`]*`|\d+", "_", (done.stderr.strip().splitlines() or ["no message"])[0])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    path, command = sys.argv[1], shlex.split(sys.argv[2])
    with open(path) as f:
        graph = Graph.parse(f.read())
    wanted = failure(command, graph.text())
    if wanted is None:
        sys.exit("error: the command does not fail for this graph")
    print(f"{len(graph.body)} statements: {wanted}")
    smaller = True
    while smaller:
        smaller = False
        candidates = [lambda i: graph.returning(i), lambda i: graph.with_input(i)]
        for candidate in candidates:
            for i in range(len(graph.body)):
                trial = candidate(i)
                if trial and len(trial.body) < len(graph.body) and failure(command, trial.text()) == wanted:
                    graph, smaller = trial, True
                    print(f"{len(graph.body)} statements", flush=True)
                    break
            if smaller:
                break
    out = re.sub(r"(\.graph)?$", ".reduced.graph", path, count=1)
    with open(out, "w") as f:
        f.write(graph.text())
    print(f"{out}:\n{graph.text()}", end="")


if __name__ == "__main__":
    main()
