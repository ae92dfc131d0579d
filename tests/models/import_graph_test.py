#!/usr/bin/env python3
"""Small modules, exported by PyTorch, imported by `toroid compile --to=import`: the graph's text must hold what each case names.

  python3 import_graph_test.py --toroid PATH [--only NAME] [--keep DIR]
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.export import Dim, export, save

CASES = []


def case(*wanted, args, kwargs=None, dynamic=None, form="training", absent=(), fails=None):
    def add(make):
        CASES.append((make.__name__, make, wanted, args, kwargs or {}, dynamic, form, absent, fails))
        return make
    return add


def simple(function):
    class Module(nn.Module):
        def forward(self, *args, **kwargs):
            return function(*args, **kwargs)
    return Module()


x34 = torch.randn(3, 4)


@case(r'%tied = weight "tied" .* in storage 0 at 0', r'%lin.weight = weight "lin.weight" .* in storage 0 at 0', args=(x34,))
def tied_weights():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(4, 4)
            self.tied = self.lin.weight
        def forward(self, x):
            return self.lin(x) @ self.tied
    return M()


@case(r"in storage 0 at 2", r"in storage 0 at 4", args=(torch.randn(4),))
def sliced_buffers():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.randn(20)
            self.register_buffer("v1", whole[2:6])
            self.register_buffer("v2", whole[4:8])
        def forward(self, x):
            return x + self.v1 * self.v2
    return M()


@case(r'buffer "b" transient : f32\[4\]', r'constant ".*" : f32\[3\]', args=(x34,))
def buffers_and_constants():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("b", torch.randn(4), persistent=False)
        def forward(self, x):
            return (x + self.b).t() * torch.tensor([1.0, 2.0, 3.0])
    return M()


@case(r'"d.a": f32\[3, 4\]', r'"d.b": f32\[4\]', r'"xs.0": f32\[3, 4\]', r'scale: f32\[\]', r'"sum": %', r'constant "flag" = true',
      args=({"a": x34, "b": torch.randn(4)}, [x34]), kwargs={"scale": torch.tensor(2.0), "flag": True})
def nested_arguments():
    class M(nn.Module):
        def forward(self, d, xs, *, scale, flag):
            return {"sum": d["a"] + d["b"] * scale, "first": xs[0] if flag else d["a"]}
    return M()


@case(r"f32\[s0, 4\]", r"2 <= s0 <= 64|0 <= s0 <= 64|1 <= s0 <= 64", r"f32\[2\*s0, 4\]", r"f32\[s0 \+ 1, 4\]", args=(torch.randn(6, 4), torch.randn(12, 4), torch.randn(7, 4)),
      dynamic=lambda: ({0: Dim("n", max=64)}, {0: 2 * Dim("n", max=64)}, {0: Dim("n", max=64) + 1}))
def derived_sizes():
    return simple(lambda a, b, c: (a + b[: a.shape[0]], c[1:] * a))


@case(r"aten.slice_scatter.default", r"-> input 0", r"aten.add.Tensor", absent=(r"aten\.add_",), args=(torch.randn(5, 4), torch.randn(2, 4)))
def writes_through_a_view():
    def f(x, y):
        x[1:3].add_(y)
        return x * 2
    return simple(f)


@case(r"aten.select_scatter.default", r"aten.transpose.int|aten.t.default", absent=(r"aten\.copy_", "-> input"), args=(torch.randn(4, 4), torch.randn(4)))
def writes_through_view_chain():
    def f(x, y):
        z = x.clone()
        z.t()[1].copy_(y)
        return z
    return simple(f)


@case(r"aten.relu.default", r"aten.mul.Tensor", absent=(r"aten\.relu_", r"aten\.mul_", "->"), args=(x34,))
def in_place_chain():
    def f(x):
        y = x + 1
        y.relu_().mul_(2)
        return y
    return simple(f)


@case(r'-> weight "count"', r'-> weight "cache"', args=(torch.randn(2, 4),))
def mutated_buffers():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))
            self.register_buffer("cache", torch.zeros(8, 4))
        def forward(self, x):
            self.count.add_(1)
            self.cache[2:4] = x
            return self.cache.sum() + self.count
    return M()


@case(r'-> weight "cache"', r'aten.slice_scatter', args=(torch.randn(2, 4),), form="functional")
def mutated_buffer_functional():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("cache", torch.zeros(8, 4))
        def forward(self, x):
            self.cache[2:4] = x
            return self.cache.sum()
    return M()


@case(r'-> weight "cache"', args=(torch.randn(2, 4),), form="core")
def mutated_buffer_core():
    return mutated_buffer_functional()


@case(r"_native_batch_norm_legit_functional", r'-> weight "bn.running_mean"', r'-> weight "bn.running_var"', r'-> weight "bn.num_batches_tracked"',
      args=(torch.randn(4, 3, 5, 5),))
def batch_norm_training():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm2d(3)
        def forward(self, x):
            return self.bn(x)
    return M().train()


@case(r"_native_batch_norm_legit_functional", r'-> weight "norm.running_mean"', r'-> weight "norm.running_var"', absent=(r"aten\.instance_norm",),
      args=(torch.randn(4, 3, 5),))
def instance_norm_training():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
        def forward(self, x):
            return self.norm(x)
    return M().train()


@case(r"_native_batch_norm_legit.no_stats", absent=("->",), args=(torch.randn(4, 3, 5),))
def batch_norm_of_the_batch_alone():
    return simple(lambda x: torch.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-5)[0])


@case(r"aten.batch_norm.default", absent=("->", "dropout"), args=(torch.randn(4, 3, 5, 5),))
def batch_norm_eval():
    return nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.ReLU(inplace=True)).eval()


@case(r'int "args_1" = s0', args=(x34, 5), dynamic=lambda: (None, Dim.DYNAMIC))
def int_input():
    return simple(lambda x, n: x * n)


@case(r'constant "args_1" = 5', args=(x34, 5))
def constant_int_input():
    return simple(lambda x, n: x * n)


@case(r"return %args_0, %add", args=(x34,))
def output_is_input():
    return simple(lambda x: (x, x + 1))


@case(r"aten.linear", absent=("wrap_with",), args=(x34,))
def no_grad_region():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(4, 4)
        def forward(self, x):
            with torch.no_grad():
                y = self.lin(x)
            return y + 1
    return M()


@case(r'higher_order.cond\(%gt, @true_graph_0, @false_graph_0', args=(x34,))
def control_flow():
    return simple(lambda x: torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)))


@case(r"return int s0\b|return .*int s0", args=(torch.randn(6, 4),), dynamic=lambda: ({0: Dim.DYNAMIC},))
def size_output():
    return simple(lambda x: (x.shape[0], x * 2))


@case(r"aten.index_put.default", r"aten.masked_fill.Scalar", absent=(r"aten\.index_put_", r"aten\.masked_fill_"), args=(x34, torch.tensor([0, 2])))
def scatter_in_place():
    def f(x, i):
        y = x.clone()
        y[i] = 1.0
        y.masked_fill_(y > 0, 0.0)
        return y
    return simple(f)


@case(r"slice_scatter.*\n(.*\n)*.*slice_scatter", args=(torch.randn(6, 4),))
def stale_views():
    def f(x):
        y = x.clone()
        a, b = y.split(3)
        a.add_(1)
        b.mul_(2)
        return y, a, b
    return simple(f)


@case(r"unsqueeze|reshape|squeeze", r"aten.add.Tensor", absent=("->",), args=(torch.randn(4),))
def in_place_shape_change():
    def f(x):
        y = x + 0
        y.unsqueeze_(0)
        y.add_(1)
        return y
    return simple(f)


@case(r"bf16", r"aten.copy.default|aten.to.dtype|aten._to_copy", args=(x34,))
def mixed_in_place():
    def f(x):
        y = x.to(torch.bfloat16)
        y.add_(x)
        return y
    return simple(f)


def run(tool, folder, entry):
    name, make, wanted, args, kwargs, dynamic, form, absent, fails = entry
    module = make()
    shapes = dynamic() if dynamic else None
    program = export(module, args, kwargs, dynamic_shapes=wrap(module, shapes))
    if form == "functional":
        program = program.run_decompositions({})
    if form == "core":
        program = program.run_decompositions()
    path = os.path.join(folder, name + ".pt2")
    save(program, path)
    done = subprocess.run([tool, "compile", path, "--to=import"], capture_output=True, text=True)
    text = done.stdout + done.stderr
    if fails:
        return [] if done.returncode and re.search(fails, text) else [f"wanted the failure /{fails}/, got\n{text}"]
    if done.returncode:
        return [text]
    return [f"no /{pattern}/ in\n{text}" for pattern in wanted if not re.search(pattern, text)] + [
        f"/{pattern}/ in\n{text}" for pattern in absent if re.search(pattern, text)]


def wrap(module, shapes):
    """`simple` modules take *args, so their dynamic shapes are one tuple."""
    return None if shapes is None else (shapes,)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--toroid", required=True)
    parser.add_argument("--only")
    parser.add_argument("--keep")
    options = parser.parse_args()
    torch.manual_seed(0)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for entry in CASES:
            if options.only and entry[0] != options.only:
                continue
            faults = run(options.toroid, options.keep or scratch, entry)
            print(f"{entry[0]}: {'ok' if not faults else 'FAILED'}")
            for fault in faults:
                print("  " + fault.replace("\n", "\n  "))
            failed += bool(faults)
    print(f"{len(CASES)} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
