"""Models whose sizes or whose course data decide: nonzero, unique, item, cond, while_loop, map, scan, recurrent layers of
any length, factorisations. Each is exported, compiled by the command line and compared with eager: on its own inputs and
others, with one and two threads bit for bit, and in PyTorch's package loader.

  python flow_test.py --toroid build/bin/toroid [NAME...] [--folder /tmp/flow]
"""
import argparse
import os
import sys
import tempfile
import traceback
import warnings

import numpy as np
import torch
from torch import nn
from torch._higher_order_ops import associative_scan
from torch._higher_order_ops.map import map as walk
from torch._higher_order_ops.out_dtype import out_dtype
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Wrong, arrays, command

warnings.filterwarnings("ignore")
DYNAMIC = torch.export.Dim.DYNAMIC
MODELS = {}


def model(*cases, shapes=None):
    """registers a module class with the arguments of its first and further runs; each is a function"""

    def register(cls):
        MODELS[cls.__name__] = (cls, cases, shapes)
        return cls

    return register


def function(name, f, *cases, shapes=None):
    class Calls(nn.Module):
        def forward(self, *xs):
            return f(*xs)

    MODELS[name] = (Calls, cases, shapes and {"xs": shapes})


@model(lambda: (torch.randn(3, 4),), lambda: (-torch.rand(3, 4),), lambda: (torch.rand(3, 4),))
class Cond(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.a(x).relu(), lambda x: self.b(x) - 1, (x,))


@model(lambda: (torch.randn(3, 4),), lambda: (torch.randn(9, 4),), shapes={"x": {0: DYNAMIC}})
class CondOnSize(nn.Module):
    def forward(self, x):
        return torch.cond(x.shape[0] > 4, lambda x: x.cos(), lambda x: x.sin() * x.shape[0], (x,))


@model(lambda: (torch.tensor(0), torch.randn(3, 4)), lambda: (torch.tensor(4), torch.randn(3, 4)),
       lambda: (torch.tensor(7), torch.randn(3, 4)))
class While(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, i, x):
        return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, self.layer(x).tanh()), (i, x))


@model(lambda: (torch.rand(3),), lambda: (torch.rand(3) + 100,))
class Nested(nn.Module):
    def forward(self, x):
        def step(x):
            return (torch.cond(x.sum() > 10, lambda x: x + 1, lambda x: x * 2, (x,)),)

        return while_loop(lambda x: x.sum() < 100, step, (x,))


function("CondOfSizes", lambda x: (lambda y: (y, y.sum(0)))(
             torch.cond(x.sum() > 0, lambda x: x[:2] * 2, lambda x: x[1:] + 1, (x,))),
         lambda: (torch.rand(5, 3),), lambda: (-torch.rand(5, 3),))
function("CondOfNumbers", lambda x: (lambda y, n: (y * n, y.new_zeros(n)))(
             *torch.cond(x.sum() > 0, lambda x: (x + 1, 2), lambda x: (x - 1, 7), (x,))),
         lambda: (torch.rand(5),), lambda: (-torch.rand(5),))
function("VmappedTwice", lambda x, y: torch.vmap(torch.vmap(lambda a, b: (a * b).sum(), (None, 0)), (0, None))(x, y),
         lambda: (torch.randn(4, 5), torch.randn(6, 5)), lambda: (torch.randn(9, 5), torch.randn(6, 5)),
         shapes=({0: DYNAMIC}, None))
function("AssociativeScan", lambda a, b: associative_scan(
             lambda l, r: (l[0] * r[0], l[1] * r[0] + r[1]), (a, b), 1, combine_mode="generic"),
         lambda: (torch.rand(3, 7, 2), torch.randn(3, 7, 2)))
function("WideProduct", lambda a, b: out_dtype(torch.ops.aten.mm.default, torch.int32, a, b),
         lambda: (torch.full((5, 9), 127, dtype=torch.int8), torch.full((9, 3), -128, dtype=torch.int8)))


@torch.compiler.nested_compile_region
def region(x):
    return x.sin() * 2


function("Region", lambda x: region(region(x)), lambda: (torch.randn(3, 4),))


class Scanned(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, h, xs):
        def step(h, x):
            h = torch.tanh(self.layer(h) + x)
            return h, h * 2

        return scan(step, h, xs, dim=0)


MODELS["Scan"] = (Scanned, (lambda: (torch.randn(2, 4), torch.randn(7, 2, 4)),), None)
MODELS["ScanOfAnyLength"] = (
    Scanned, (lambda: (torch.randn(2, 4), torch.randn(7, 2, 4)), lambda: (torch.randn(5, 4), torch.randn(12, 5, 4))),
    {"h": {0: DYNAMIC}, "xs": {0: DYNAMIC, 1: DYNAMIC}})


@model(lambda: (torch.randn(5, 2, 4), torch.randn(4)), lambda: (torch.randn(9, 2, 4), torch.randn(4)),
       shapes={"xs": {0: DYNAMIC}, "y": None})
class Map(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, xs, y):
        return walk(lambda x, y: self.layer(x) + y, xs, y)


@model(lambda: (torch.randn(6, 2), torch.tensor(3)), lambda: (torch.randn(6, 2), torch.tensor(0)))
class Item(nn.Module):
    def forward(self, x, n):
        k = n.item()
        torch._check(k >= 0)
        torch._check(k <= x.shape[0])
        return x[:k].sum(0), torch.zeros(k, 3) + k


@model(lambda: (torch.randn(5, 6),), lambda: (torch.randn(8, 3),), lambda: (torch.zeros(2, 3),),
       shapes={"x": {0: DYNAMIC, 1: DYNAMIC}})
class Positions(nn.Module):
    def forward(self, x):
        found = x.nonzero()
        return found, x[x > 0] * 2, torch.masked_select(x, x < 0), torch.unique((x * 2).int()), found.shape[0]


function("UniqueParts", lambda x: torch.unique(x, return_inverse=True, return_counts=True),
         lambda: (torch.randint(0, 5, (40,)),), lambda: (torch.randint(0, 30, (40,)),))
function("UniqueRows", lambda x: torch.unique(x, dim=0, return_inverse=True, return_counts=True),
         lambda: (torch.randint(0, 2, (20, 3)),))
function("UniqueRuns", lambda x: torch.unique_consecutive(x, return_inverse=True, return_counts=True),
         lambda: (torch.randint(0, 2, (40,)),))
function("MaskAndIndex", lambda x, m, k: x[m, k], lambda: (torch.randn(5, 6), torch.arange(5) % 2 == 0, torch.tensor([3])))
function("Float", lambda x, y: x * y.item() + 1, lambda: (torch.randn(5, 6), torch.tensor(2.5)))
function("Asserted", lambda x: (torch._assert_async((x.abs() < 9).all()), x + 1)[1], lambda: (torch.randn(5),))
function("RepeatedNumbers", lambda n: torch.repeat_interleave(n), lambda: (torch.tensor([1, 0, 3]),))
function("RepeatRows", lambda x, n: torch.repeat_interleave(x, n, dim=0),
         lambda: (torch.randn(5, 6), torch.tensor([1, 0, 3, 2, 1])), lambda: (torch.randn(5, 6), torch.arange(5)))


@model(lambda: (torch.randn(10, 8),), lambda: (torch.randn(10, 8) * 0,))
class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.gate = nn.Linear(8, 3)

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        best = weights.argmax(-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows = (best == i).nonzero().squeeze(1)
            out[rows] = expert(x[rows]) * weights[rows, i : i + 1]
        return out


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.layer = kind(8, 16, 2, **options)

    def forward(self, x):
        return self.layer(x)[0]


MODELS["LongLstm"] = (lambda: Recurrent(nn.LSTM, bidirectional=True, batch_first=True),
                      (lambda: (torch.randn(2, 300, 8),),), None)
MODELS["LongGru"] = (lambda: Recurrent(nn.GRU), (lambda: (torch.randn(300, 2, 8),),), None)


def definite(n, *batch):
    a = torch.randn(*batch, n, n)
    return a @ a.mT + n * torch.eye(n)


L = torch.linalg
function("Cholesky", L.cholesky, lambda: (definite(5, 3),))
function("Solve", L.solve, lambda: (torch.randn(3, 5, 5), torch.randn(3, 5, 2)))
function("Inverse", L.inv, lambda: (definite(6),))
function("Determinants", lambda a: (L.det(a), *L.slogdet(a)), lambda: (torch.randn(4, 5, 5),))
function("Qr", lambda a: tuple(L.qr(a)), lambda: (torch.randn(2, 6, 4),))
function("SvdValues", L.svdvals, lambda: (torch.randn(2, 6, 4),))
function("Svd", lambda a: (lambda u, s, v: ((u * s.unsqueeze(-2)) @ v, s))(*L.svd(a, full_matrices=False)),
         lambda: (torch.randn(2, 6, 4),))
function("Eigen", lambda a: (lambda w, v: (w, (v * w.unsqueeze(-2)) @ v.mT))(*L.eigh(a)), lambda: (definite(5, 2),))
function("PseudoInverse", L.pinv, lambda: (torch.randn(6, 4),))
function("Exponential", torch.matrix_exp, lambda: (torch.randn(3, 4, 4),))
function("EigenValues", L.eigvalsh, lambda: (definite(5, 2),))
function("Rank", lambda a: (L.matrix_rank(a), L.matrix_rank(a, rtol=0.5)), lambda: (torch.randn(2, 6, 4),))
function("PseudoInverseOfSome", lambda a: L.pinv(a, rtol=0.3), lambda: (torch.randn(6, 4),))
function("OldNames", lambda a: (torch.svd(a)[1], torch.inverse(a), torch.pinverse(a), *torch.qr(a), torch.cholesky(a)), lambda: (definite(4),))
function("CholeskySolve", lambda b, a: (torch.cholesky_solve(b, L.cholesky(a)), torch.cholesky_inverse(L.cholesky(a))),
         lambda: (torch.randn(5, 2), definite(5)))
function("LuSolve", lambda a, b: L.lu_solve(*L.lu_factor(a), b), lambda: (torch.randn(3, 5, 5), torch.randn(3, 5, 2)))
function("LuUnpack", lambda a: tuple(torch.lu_unpack(*L.lu_factor(a))), lambda: (torch.randn(2, 5, 5),))
function("OldTriangular", lambda b, a: tuple(torch.triangular_solve(b, a)),
         lambda: (torch.randn(4, 2), torch.randn(4, 4).triu() + 4 * torch.eye(4)))
function("Reflectors", torch.ormqr, lambda: (torch.randn(5, 3), torch.rand(3), torch.randn(5, 2)))
function("InverseAndInfo", lambda a: (*L.inv_ex(a), *L.solve_ex(a, a[:, :1]), *L.cholesky_ex(a)), lambda: (definite(4),))
function("Lu", lambda a: tuple(L.lu(a)), lambda: (torch.randn(2, 5, 3),))
function("Triangular", lambda a, b: L.solve_triangular(a, b, upper=True), lambda: (torch.randn(4, 4).triu() + 4 * torch.eye(4), torch.randn(4, 2)))


def close(got, want):
    if len(got) != len(want):
        raise Wrong(f"{len(got)} outputs, expected {len(want)}")
    for i, (g, w) in enumerate(zip(got, want)):
        if g.shape != w.shape or g.dtype != w.dtype:
            raise Wrong(f"out{i} is {g.dtype}{list(g.shape)}, expected {w.dtype}{list(w.shape)}")
        if not np.allclose(g, w, rtol=1e-4, atol=1e-4):
            raise Wrong(f"out{i} is off by {np.abs(g.astype(float) - w).max()}")


def check(toroid, name, folder):
    make, cases, shapes = MODELS[name]
    torch.manual_seed(0)
    module = make().eval()
    args = [case() for case in cases]
    stem = os.path.join(folder, name)
    with torch.no_grad():
        program = torch.export.export(module, args[0], dynamic_shapes=shapes, strict=False)
        torch.export.save(program, stem + ".pt2")
        command(toroid, "compile", stem + ".pt2", "-o", stem + ".out.pt2")
        from torch._inductor.package import load_package

        runner = load_package(stem + ".out.pt2")
        for arg in args:
            want = arrays(module(*arg))
            np.savez(stem + ".npz", **{f"arg{i}": a for i, a in enumerate(arrays(arg))})
            runs = []
            for threads in (1, 2):
                command(toroid, "run", stem + ".out.pt2", "--inputs", stem + ".npz", "--outputs", stem + ".got.npz",
                        "--threads", threads)
                with np.load(stem + ".got.npz") as z:
                    runs.append([z[f"out{i}"] for i in range(len(z.files))])
            close(runs[0], want)
            if not all(np.array_equal(a, b) for a, b in zip(*runs)):
                raise Wrong("one and two threads give other bits")
            close(arrays(runner(*arg)), want)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--toroid", required=True)
    parser.add_argument("--folder")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.names or MODELS:
            try:
                check(options.toroid, name, options.folder or temporary)
                print(f"{name}: right", flush=True)
            except Exception as error:
                failed += 1
                if not isinstance(error, Wrong):
                    traceback.print_exc(limit=3)
                print(f"{name}: WRONG: {error}"[:1200], flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
