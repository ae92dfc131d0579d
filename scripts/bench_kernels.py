"""Times fused kernels beside Inductor's, kernel against kernel: of Inductor its generated C++ functions alone, without the
Python around them; of Toroid whole calls of a package.

  python scripts/bench_kernels.py [--threads 1,2] [--rows 128,4096] [--budget S] [NAME...]

Both run by turns; each number is the least of all. `GB/s` counts inputs and outputs once.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(root, "scripts"))
from toroid_ctypes import Package


class Of(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *args):
        return self.f(*args)


def matrix(rows):
    return torch.randn(rows, 1024)


def rms_norm(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def image(rows):
    return torch.randn(rows // 64, 64, 32, 32)


CASES = {
    "add": (lambda x, y: x + y, lambda n: (matrix(n), matrix(n))),
    "relu_mul": (lambda x, y: F.relu(x) * y, lambda n: (matrix(n), matrix(n))),
    "gelu": (F.gelu, lambda n: (matrix(n),)),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), lambda n: (matrix(n),)),
    "sigmoid": (torch.sigmoid, lambda n: (matrix(n),)),
    "silu_mul": (lambda x, y: F.silu(x) * y, lambda n: (matrix(n), matrix(n))),
    "softmax": (lambda x: torch.softmax(x, -1), lambda n: (matrix(n),)),
    "log_softmax": (lambda x: torch.log_softmax(x, -1), lambda n: (matrix(n),)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (1024,), w, b), lambda n: (matrix(n), torch.rand(1024), torch.rand(1024))),
    "rms_norm": (lambda x, w: rms_norm(x) * w, lambda n: (matrix(n), torch.rand(1024))),
    "residual_layer_norm": (lambda x, y: (x + y, F.layer_norm(x + y, (1024,))), lambda n: (matrix(n), matrix(n))),
    "row_sum": (lambda x: x.sum(1), lambda n: (matrix(n),)),
    "column_sum": (lambda x: x.sum(0), lambda n: (matrix(n),)),
    "sum": (lambda x: x.sum(), lambda n: (matrix(n),)),
    "row_max": (lambda x: x.amax(1), lambda n: (matrix(n),)),
    "row_and_column_sums": (lambda x: (x.sum(0), x.sum(1)), lambda n: (matrix(n),)),
    "variance": (lambda x: torch.var_mean(x, 1), lambda n: (matrix(n),)),
    "transpose_add": (lambda x, y: x.t() + y, lambda n: (matrix(n), torch.randn(1024, n))),
    "cat": (lambda x, y: torch.cat((F.relu(x), y), 1), lambda n: (torch.randn(n, 512), torch.randn(n, 512))),
    "upsample_add": (lambda x, y: F.interpolate(x, scale_factor=2.0) + y,
                     lambda n: (torch.randn(n // 64, 64, 16, 16), image(n))),
    "group_norm_silu": (lambda x: F.silu(F.group_norm(x, 8)), lambda n: (image(n),)),
    "batch_norm_relu": (lambda x, m, v: F.relu((x - m) * v), lambda n: (image(n), torch.rand(1, 64, 1, 1), torch.rand(1, 64, 1, 1))),
    "bf16_gelu": (F.gelu, lambda n: (matrix(n).bfloat16(),)),
    "bf16_layer_norm": (lambda x: F.layer_norm(x, (1024,)), lambda n: (matrix(n).bfloat16(),)),
}


def inductor_kernels(module, args):
    """a call that runs every generated kernel with the arguments it had, and nothing else"""
    import torch._inductor.config as config
    from torch._inductor.codecache import PyCodeCache

    config.fx_graph_cache = False
    torch._dynamo.reset()
    calls, modules = [], []
    load = PyCodeCache.__dict__["load_by_key_path"].__func__

    def hook(cls, *a, **k):
        loaded = load(cls, *a, **k)
        modules.append(loaded)
        return loaded

    PyCodeCache.load_by_key_path = classmethod(hook)
    try:
        with torch.no_grad():
            compiled = torch.compile(module)
            compiled(*args)
            for loaded in modules:
                for name, f in list(vars(loaded).items()):
                    if name.startswith("cpp_fused"):
                        def noted(*a, f=f):
                            calls.append((f, a))
                            return f(*a)
                        setattr(loaded, name, noted)
            compiled(*args)
    finally:
        PyCodeCache.load_by_key_path = classmethod(load)

    def call():
        for f, a in calls:
            f(*a)

    return call, len(calls)


def least(calls, budget):
    best = [float("inf")] * len(calls)
    repeat = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        repeat.append(max(1, int(2e-4 / max(time.perf_counter() - start, 1e-7))))
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        for i, call in enumerate(calls):
            for _ in range(3):
                start = time.perf_counter()
                for _ in range(repeat[i]):
                    call()
                best[i] = min(best[i], (time.perf_counter() - start) / repeat[i])
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--toroid", default=os.path.join(root, "build", "bin", "toroid"))
    parser.add_argument("--threads", default="1")
    parser.add_argument("--rows", default="128,4096")
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--no-inductor", action="store_true")
    args = parser.parse_args()
    library = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(args.toroid))), "lib")
    print(f"{'case':22s} {'rows':>5s} {'threads':>7s} {'toroid us':>10s} {'inductor us':>12s} {'ratio':>6s} {'GB/s':>6s}")
    for rows in map(int, args.rows.split(",")):
        for name in args.names or CASES:
            f, make = CASES[name]
            torch.manual_seed(0)
            inputs = make(rows)
            module = Of(f)
            with torch.no_grad():
                want = module(*inputs)
            want = want if isinstance(want, tuple) else (want,)
            bf16 = any(t.dtype == torch.bfloat16 for t in inputs)
            view = (lambda t: t.view(torch.int16)) if bf16 else (lambda t: t)
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "m.pt2")
                torch.export.save(torch.export.export(module, inputs), path)
                done = subprocess.run([args.toroid, "compile", path, "-o", path + ".pkg"], capture_output=True, text=True)
                if done.returncode:
                    print(f"{name:22s} {done.stderr.strip()[:100]}")
                    continue
                for threads in map(int, args.threads.split(",")):
                    torch.set_num_threads(threads)
                    package = Package(library, path + ".pkg", [view(t).numpy() for t in inputs],
                                      [view(t).numpy() for t in want], threads, bf16)
                    got = package()
                    if not bf16:
                        for a, b in zip(got, want):
                            assert torch.allclose(torch.from_numpy(a), b, rtol=1e-4, atol=1e-3), name
                    calls = [package]
                    if not args.no_inductor:
                        other, kernels = inductor_kernels(module, inputs)
                        calls.append(other)
                    times = least(calls, args.budget)
                    moved = sum(t.numel() * t.element_size() for t in inputs + want)
                    theirs = f"{times[1] * 1e6:12.1f} {times[1] / times[0]:6.2f}" if len(times) > 1 else " " * 19
                    print(f"{name:22s} {rows:5d} {threads:7d} {times[0] * 1e6:10.1f} {theirs} {moved / times[0] / 1e9:6.1f}",
                          flush=True)


if __name__ == "__main__":
    main()
