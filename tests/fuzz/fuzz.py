"""Random programs: compiled beside the interpreter beside PyTorch.

  ./dev fuzz [--minutes N] [--seed S] [--count N] [--length N] [--keep DIR] [--static]

Each seed is a program of up to a hundred statements (programs.py), exported with a dynamic size where it has one, saved, compiled
by toroid.compile and run at two sizes, and run by the interpreter. What is exact must come out equal; the rest may lie four times as
far from float64 as PyTorch's own result, or as its result on inputs an ulp away. A finding leaves DIR/SEED.py (the program, cut
down to the first value that is wrong), .pt2, .in.npz; its seed repeats it: --seed S --count 1.
"""
import argparse
import collections
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from programs import SIZES, Program


class Finding(Exception):
    """what is wrong, and of which value"""

    def __init__(self, who, what, value=None):
        super().__init__(f"{who}: {what}" + (f" ({value})" if value else ""))


def expected(program, name, case):
    """(float64 value, how far a right result may lie, whether it must be equal)"""
    eager, wide, shaken = (program.tensor(name, 2 * kind + case) for kind in range(3))
    value = next(v for v in program.values if v.name == name)
    if not wide.is_floating_point() or value.exact and not value.coarse:
        return wide, 0.0, True
    apart = max(float((x.double() - wide).abs().max()) if x.numel() else 0.0 for x in (eager, shaken))
    scale = float(wide.abs().max()) if wide.numel() else 0.0
    return wide, 4 * apart + (16 * 2.0 ** -24 + 2 * value.coarse) * scale, False


def check(program, who, names, results, case, exact=False):
    """raises Finding where a result is not the expected one; exact: results are in float64"""
    for name, got in zip(names, results):
        wide, allowed, equal = expected(program, name, case)
        eager = program.tensor(name, case)
        if tuple(got.shape) != tuple(wide.shape):
            raise Finding(who, f"sizes {tuple(got.shape)}, expected {tuple(wide.shape)}", name)
        if not exact and got.dtype != eager.dtype:
            raise Finding(who, f"dtype {got.dtype}, expected {eager.dtype}", name)
        if not wide.is_floating_point() or equal:
            if not torch.equal(got.to(wide.dtype), wide):
                raise Finding(who, f"{int((got.to(wide.dtype) != wide).sum())} of {wide.numel()} exact values differ", name)
            continue
        if exact and not next(v for v in program.values if v.name == name).coarse:
            # Numbers in the program are float32 there, as they are in eager.
            allowed = 0.05 * allowed + 1e-7
        if got.numel() and not float((got.double() - wide).abs().max()) <= allowed:
            raise Finding(who, f"{float((got.double() - wide).abs().max()):.3g} from float64, allowed {allowed:.3g}", name)


def export(program, dynamic):
    shapes = None
    if dynamic:
        b = torch.export.Dim("b", min=2, max=4096)
        shapes = (tuple({i: b for i, s in enumerate(sizes) if s == "B"} for _, sizes, *_ in program.inputs),)
    return torch.export.export(Spread(program.module()), program.arguments(SIZES[0]), dynamic_shapes=shapes, strict=False)


class Spread(torch.nn.Module):
    """takes any number of inputs, so that dynamic_shapes is one tuple"""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args):
        return self.inner(*args)


def interpret(tool, folder, archive, inputs):
    given, out = os.path.join(folder, "in.npz"), os.path.join(folder, "out.npz")
    np.savez(given, **{f"arg{i}": x.numpy() for i, x in enumerate(inputs)})
    done = subprocess.run([tool, archive, given, out], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Finding("interpreter", done.stderr.strip().splitlines()[0] if done.stderr else f"exit {done.returncode}")
    with np.load(out) as results:
        return [torch.from_numpy(results[f"out{i}"]) for i in range(len(results.files))]


def try_program(program, options, folder, counts):
    """raises Finding"""
    import toroid

    try:
        exported, dynamic = export(program, not options.static), not options.static
    except Exception:
        try:
            exported, dynamic = export(program, False), False
        except Exception:
            counts["does not export"] += 1
            return
    counts["dynamic" if dynamic else "static"] += 1
    archive = os.path.join(folder, "program.pt2")
    torch.export.save(exported, archive)
    try:
        compiled = toroid.compile(exported)
    except toroid.UnsupportedError as error:
        raise Finding("unsupported", "; ".join(str(op) for op in error.ops[:3]))
    except toroid.Error as error:
        raise Finding("compile", " | ".join(str(error).splitlines())[:600])
    for case in range(2 if dynamic else 1):
        inputs = [x.clone() for x in program.arguments(SIZES[case])]
        first = compiled(*inputs)
        check(program, "compiled", program.outputs, first, case)
        # Written inputs hold what eager left in them.
        names = [name for name, *_ in program.inputs]
        check(program, "written input", names, inputs, case)
        again = [x.clone() for x in program.arguments(SIZES[case])]
        for name, a, b in zip(program.outputs, first, compiled(*again)):
            if not torch.equal(a, b):
                raise Finding("compiled", "another result in the second call", name)
        if options.interpreter:
            results = interpret(options.interpreter, folder, archive, program.arguments(SIZES[case]))
            # Mutations come before what the program returns.
            check(program, "interpreter", program.outputs, results[len(results) - len(program.outputs):], case, exact=True)


def cut_down(program, failure, options, folder, limit=90):
    """the shortest program found that fails in the same way, within so many seconds"""
    kind, end = str(failure).split(":")[0], time.monotonic() + limit

    def fails(trial):
        try:
            try_program(trial, options, folder, collections.Counter())
        except Finding as error:
            return str(error).split(":")[0] == kind
        return False

    # The first value that is wrong by itself, then half of the lines, a quarter, ... down to one.
    for line in program.lines:
        trial = program.without((), [line.name])
        if trial.outputs and time.monotonic() < end and fails(trial):
            program = trial
            break
    step = len(program.lines)
    while step > 1:
        step = (step + 1) // 2
        at = len(program.lines)
        while at > 0 and time.monotonic() < end:
            dropped = program.lines[max(at - step, 0):at]
            trial = program.without(dropped, program.outputs)
            if trial.outputs == program.outputs and fails(trial):
                program = trial
            at -= step
            at = min(at, len(program.lines))
    return program


def worker(options):
    """takes seeds from standard input, says what became of each"""
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            seed = int(line)
            counts = collections.Counter()
            said = "right"
            torch.manual_seed(seed)
            program = Program.of_length(seed, length_of(seed, options))
            try:
                if program.outputs:
                    try_program(program, options, folder, counts)
            except Finding as error:
                said = str(error).replace("\n", " ")
                if options.keep:
                    keep(program, error, options, folder)
            except Exception as error:
                said = "fuzz.py: " + " | ".join(traceback.format_exc().splitlines()[-4:])
            print("\t".join([str(seed), str(len(program.lines)), ",".join(counts), said]), flush=True)


def length_of(seed, options):
    return options.length or (5, 10, 20, 40, 70, 100)[seed % 6]


def keep(program, error, options, folder):
    program = cut_down(program, error, options, folder)
    try:
        try_program(program, options, folder, collections.Counter())  # leaves its archive
    except Finding as last:
        error = last
    stem = os.path.join(options.keep, str(program.seed))
    with open(stem + ".py", "w") as f:
        f.write(f"# {error}\nimport torch, torch.nn.functional as F\n")
        for name, x in program.parameters.items():
            if "self." + name in program.source():
                f.write(f"# self.{name}: {list(x.shape)}\n")
        for name, sizes, kind, _ in program.inputs:
            f.write(f"# {name}: {kind} {sizes}\n")
        f.write(program.source())
    archive = os.path.join(folder, "program.pt2")
    if os.path.exists(archive):
        os.replace(archive, stem + ".pt2")
    np.savez(stem + ".in.npz", **{f"arg{i}": x.numpy() for i, x in enumerate(program.arguments(SIZES[0]))})


class Worker:
    """a process that tries seeds, started again after a crash"""

    def __init__(self, argv):
        self.argv, self.process = argv, None

    def try_seed(self, seed, limit=180):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), *self.argv, "--worker"], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.process.stdin.write(f"{seed}\n")
        self.process.stdin.flush()
        signal.alarm(limit)
        try:
            line = self.process.stdout.readline()
        except TimeoutError:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return [str(seed), "?", "", f"hang: no answer in {limit} s"]
        finally:
            signal.alarm(0)
        if not line:
            return [str(seed), "?", "", f"crash: exit {self.process.wait()}"]
        return line.rstrip("\n").split("\t")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, help="the first one; else by the clock")
    parser.add_argument("--count", type=int, help="so many programs, however long they take")
    parser.add_argument("--length", type=int, help="statements of each; else 5 to 100")
    parser.add_argument("--keep", default="build/fuzz", help="the folder for findings")
    parser.add_argument("--static", action="store_true", help="no dynamic sizes")
    parser.add_argument("--interpreter", default="", help="the program that interprets archives; none: left out")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.makedirs(options.keep, exist_ok=True)
    torch.set_num_threads(1)
    if options.worker:
        return worker(options)

    def expire(*_):
        raise TimeoutError
    signal.signal(signal.SIGALRM, expire)
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seeds from {seed}", flush=True)
    tried, found, kinds = 0, 0, collections.Counter()
    start, process = time.monotonic(), Worker([a for a in sys.argv[1:] if a != "--worker"])
    while (tried < options.count) if options.count else (time.monotonic() - start < 60 * options.minutes):
        name, length, kind, said = process.try_seed(seed + tried)
        tried += 1
        kinds[kind or "no values"] += 1
        if said != "right":
            found += 1
            print(f"seed {name}, {length} statements: {said}", flush=True)
        elif sys.stderr.isatty():
            print(f"\r{tried} programs", end="", file=sys.stderr)
    print(", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    print(f"fuzz: {tried} programs, {found} findings, {time.monotonic() - start:.0f} s")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
