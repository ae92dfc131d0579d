"""Rows of a suite as text: on the terminal, and as sections of docs/benchmarks.md, one a suite, between marks."""
import os

import machine
from items import geometric_mean


class Times:
    """milliseconds of a call"""
    measure = "time"

    def values(self, row):
        return {e: t["median"] for e, t in row["ms"].items()}

    def ratios(self, row):
        values = self.values(row)
        return {e: v / values["toroid"] for e, v in values.items() if e != "toroid"}

    def extra_heads(self):
        return ["of peak", "of bandwidth", "best peer"]

    def extras(self, row, item, host, threads):
        ms, ratios = row["ms"]["toroid"]["median"], self.ratios(row)
        peak, bandwidth = host["gflops"].get(str(threads)), host["read_gbs"].get(str(threads))
        return [f"{item.flops / ms / 1e4 / peak:.0f}%" if item.flops and peak else "",
                f"{item.bytes / ms / 1e4 / bandwidth:.0f}%" if item.bytes and bandwidth else "",
                f"{min(ratios.values()):.2f}x" if ratios else ""]

    def cell(self, value):
        return f"{value:.4f}" if value < 1 else f"{value:.2f}"

    def cells(self, row, engines, item, host, threads):
        values = self.values(row)
        return [self.cell(values[e]) if e in values else "-" for e in engines] + self.extras(row, item, host, threads)

    def head(self, engines):
        return f"{'':24}" + "".join(f"{h:>13}" for h in engines + self.extra_heads())

    def line(self, name, row, engines, item, host, threads):
        return f"{name:24}" + "".join(f"{c:>13}" for c in self.cells(row, engines, item, host, threads))

    def means(self, rows, engines):
        """geometric means of the ratios: each peer over the items that it can run, then the best peer of each item"""
        out = {}
        for engine in engines[1:]:
            ratios = [self.ratios(row)[engine] for row in rows.values() if engine in self.ratios(row)]
            if ratios:
                out[engine] = (geometric_mean(ratios), len(ratios))
        best = [min(self.ratios(row).values()) for row in rows.values() if self.ratios(row)]
        if best:
            out["best peer"] = (geometric_mean(best), len(best))
        return out

    def sums(self, rows, engines):
        return "\n".join(f"{engine:16}{mean:7.2f} times Toroid's {self.measure}, geometric mean of {count}"
                         for engine, (mean, count) in self.means(rows, engines).items())


class Seconds(Times):
    """seconds of a compilation; Toroid's is the cold one"""
    measure = "cold compile time"

    def values(self, row):
        return {("toroid" if e == "cold" else e): s for e, s in row["seconds"].items() if e != "warm"}

    def extra_heads(self):
        return ["warm", "packing", "hashing", "writing"]

    def extras(self, row, item, host, threads):
        steps = [row["steps_ms"].get("package " + s) for s in ("packing of weights", "hashing", "writing")]
        return [f"{row['seconds']['warm']:.3f}"] + [f"{ms:.0f} ms" if ms is not None else "" for ms in steps]


class Bytes(Times):
    """peak memory of a call"""
    measure = "peak memory"

    def values(self, row):
        return row["bytes"]

    def extra_heads(self):
        return ["lower bound", "over it"]

    def extras(self, row, item, host, threads):
        bound = row["lower_bound"]
        return [self.cell(bound), f"{row['bytes']['toroid'] / bound:.3f}" if bound else ""]

    def cell(self, value):
        return f"{value / 1e6:.2f} MB"


class Slowdowns(Times):
    """how many times slower a call is beside a busy loop"""
    measure = "slowdown"

    def values(self, row):
        return row["slower"]

    def extra_heads(self):
        return ["quiet ms"]

    def extras(self, row, item, host, threads):
        return [f"{row['ms']['toroid']['median']:.2f}"]


SUITE_TABLES = {"models": Times(), "compile": Seconds(), "memory": Bytes(), "contention": Slowdowns()}


def section(suite, table, threads, engines, known, host):
    """threads: {count: {item: row}}"""
    out = [f"## {suite}", "", (table.__doc__ or "").strip() + f"; `./dev bench --suite {suite}`.", "",
           "; ".join(machine.text(host)) + f"; {host['day']}.", "", f"![{suite}](bench/{suite}.svg)", ""]
    for count, rows in threads.items():
        if not rows:
            continue
        heads = engines + table.extra_heads()
        out += [f"{count} thread{'s' * (count != '1')}:", "", "| | " + " | ".join(heads) + " |",
                "|---|" + "---:|" * len(heads)]
        for name in known:
            if name in rows:
                out.append(f"| {name} | " + " | ".join(table.cells(rows[name], engines, known[name], host, count)) + " |")
        means = table.means(rows, engines)
        out += ["", "Geometric means of a peer's over Toroid's: " +
                ", ".join(f"{e} {m:.2f} ({c})" for e, (m, c) in means.items()) + ".", ""]
        reasons = [f"{name}, {peer}: {why}" for name, row in rows.items() for peer, why in row["reasons"].items()]
        if reasons:
            out += ["Left out:", ""] + [f"- {r}".replace("<", "&lt;") for r in reasons] + [""]
    return "\n".join(out)


def write_section(path, suite, table, threads, engines, known, host):
    begin, end = f"<!-- {suite}: written by ./dev bench -->", f"<!-- end of {suite} -->"
    text = begin + "\n" + section(suite, table, threads, engines, known, host) + end + "\n"
    old = ""
    if os.path.exists(path):
        with open(path) as f:
            old = f.read()
    if not old:
        old = ("# Benchmarks\n\nEach section is what `./dev bench --suite NAME` wrote last, with the machine it ran on; the numbers "
               "themselves are in `bench/NAME.json`. Numbers of one section come from interleaved runs and may be compared "
               "with each other, not with those of another machine.\n")
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        old = head + text + rest.split(end, 1)[1].lstrip("\n")
    else:
        old = old.rstrip("\n") + "\n\n" + text
    with open(path, "w") as f:
        f.write(old)
