"""Times one call of a small function of 1, 4 and 32 tensors through each way of running it, interleaved, and prints a
table in Markdown; --write FILE puts it there between its marks. Run by ./dev bench-calls.

The function adds its inputs, f32[8] each, so nearly all of the time is the call's own.
"""
import argparse
import re
import subprocess
import tempfile
import time

import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd

import toroid
from toroid import backend

COUNTS = (1, 4, 32)
MARKS = ("<!-- calls: begin -->", "<!-- calls: end -->")


class Sum(nn.Module):
    def forward(self, *xs):
        y = xs[0] + 1
        for x in xs[1:]:
            y = y + x
        return y


def returns_its_input(gm, example_inputs):
    """What Dynamo alone costs: a backend without work."""
    return lambda *args: (args[-1],)


def boxed_that_returns_its_input(gm, example_inputs):
    """The same behind AOTAutograd."""

    def run(args):
        results = [args[-1]]
        args.clear()
        return results

    run._boxed_call = True
    return run


def ways(count, folder, call_bench, peers):
    """name -> (callable taking nothing, or nanoseconds)"""
    torch._dynamo.reset()
    xs = [torch.randn(8) for _ in range(count)]
    model = Sum()
    found = {"eager": lambda: model(*xs)}

    def compiled(name, chosen, **options):
        module = Sum()
        checked = chosen in ("inductor", backend.toroid)
        with torch._inductor.config.patch(options):
            f = torch.compile(module, backend=chosen, fullgraph=True, dynamic=False)
            got = f(*xs)
            assert not checked or torch.allclose(got, model(*xs), atol=1e-5)
        found[name] = lambda: f(*xs)

    compiled("torch.compile, a backend that returns its input", returns_its_input)
    compiled("torch.compile, AOTAutograd that returns its input", aot_autograd(fw_compiler=boxed_that_returns_its_input))
    if peers:
        compiled("torch.compile, Inductor", "inductor")
        compiled("torch.compile, Inductor with cpp_wrapper", "inductor", cpp_wrapper=True)
    compiled("torch.compile, Toroid", backend.toroid)
    exported = torch.export.export(model, tuple(xs))
    if peers:
        package = torch._inductor.aoti_compile_and_package(exported, package_path=f"{folder}/aoti{count}.pt2")
        aoti = torch._inductor.aoti_load_package(package)
        found["AOTInductor, Python call"] = lambda: aoti(*xs)
        found["AOTInductor, boxed_run"] = lambda: aoti.loader.boxed_run(list(xs))
    program = toroid.compile(exported)
    path = f"{folder}/toroid{count}.pt2"
    program.save(path)
    loaded = toroid.load(path)
    assert torch.allclose(loaded(*xs), model(*xs), atol=1e-5)
    found["Toroid, toroid.compile"] = lambda: program(*xs)
    found["Toroid, toroid.load"] = lambda: loaded(*xs)
    boxed = loaded.boxed
    found["Toroid, boxed list"] = lambda: boxed(list(xs))
    if call_bench:
        found["Toroid, C++ (toroid_run)"] = float(subprocess.run([call_bench, path], check=True, capture_output=True,
                                                                 text=True).stdout)
    return found


def nanoseconds(f, calls=50):
    start = time.perf_counter_ns()
    for _ in range(calls):
        f()
    return (time.perf_counter_ns() - start) / calls


def measure(found, blocks=400):
    """The 5th percentile over short blocks of calls, the ways one after another: what a call takes while nothing else
    runs. The loop's own time is taken off."""
    times = {name: [] for name, f in found.items() if callable(f)}
    times[""] = []
    for name, f in found.items():
        if callable(f):
            nanoseconds(f, 200)
    for _ in range(blocks):
        for name, row in times.items():
            row.append(nanoseconds(found[name] if name else lambda: None))
    low = {name: sorted(row)[len(row) // 20] for name, row in times.items()}
    return {name: low[name] - low[""] if name in low else found[name] for name in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--call-bench", help="the built tests/bench/call_bench")
    parser.add_argument("--no-peers", action="store_true", help="leave out Inductor and AOTInductor, which take minutes")
    parser.add_argument("--write", help="a Markdown file with the marks of this table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        columns = [measure(ways(count, folder, args.call_bench, not args.no_peers)) for count in COUNTS]
    lines = ["| µs per call | " + " | ".join(f"{n} input{'s' * (n > 1)}" for n in COUNTS) + " |", "|---|" + "---|" * len(COUNTS)]
    for name in columns[0]:
        lines.append(f"| {name} | " + " | ".join(f"{column[name] / 1e3:.2f}" for column in columns) + " |")
    table = "\n".join(lines)
    print(table)
    if args.write:
        with open(args.write) as file:
            text = file.read()
        begin, end = MARKS
        with open(args.write, "w") as file:
            file.write(re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{table}\n{end}", text, flags=re.S))


if __name__ == "__main__":
    main()
