#!/usr/bin/env python3
"""How far results lie from float64, for every operator of PyTorch's own database: Toroid's distance over eager's.

Each operator's first -k samples are exported and compiled by toroid.compile. The distance is the largest difference from
the same operator in float64, over the largest value of the result, and at least half a unit in the last place of it; where
the operator refuses float64, or its result is no float or differs from call to call, there is none. One JSON line per
operator goes to --out (operators that stand there already are left out), then the worst ones are printed.

  PYTHONPATH=build/python scripts/op_accuracy.py --out FILE [--only REGEX] [--shard i/n] [-k 2] [--dtype float32]
"""
import argparse
import json
import logging
import os
import re
import sys
import warnings
from itertools import islice

import torch
import torch.utils._pytree as pytree
from torch.testing._internal import common_methods_invocations
from torch.testing._internal.common_methods_invocations import op_db

import toroid


class Sample(torch.nn.Module):
    """An operator's call; forward takes its tensors."""

    def __init__(self, call, leaves, spec):
        super().__init__()
        self.call, self.leaves, self.spec = call, leaves, spec

    def forward(self, *tensors):
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        out = self.call(*args, **kwargs)
        return tuple(out) if isinstance(out, tuple) else out


def floats(results):
    return [x for x in pytree.tree_leaves(results) if isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())]


def distance(got, exact, dtype):
    """Of all results of a call, the largest."""
    worst = 0.0
    for g, e in zip(got, exact, strict=True):
        if g.shape != e.shape:
            raise ValueError("other sizes in float64")
        finite = torch.isfinite(e) & torch.isfinite(g)
        if finite.any():
            scale = e[finite].abs().max().clamp_min(torch.finfo(dtype).tiny)
            worst = max(worst, ((g.to(e.dtype) - e)[finite].abs().max() / scale).item())
    return max(worst, torch.finfo(dtype).eps / 2)


def wide(x):
    if not isinstance(x, torch.Tensor):
        return torch.float64 if isinstance(x, torch.dtype) and x.is_floating_point else x
    return x.double() if x.is_floating_point() else x.to(torch.complex128) if x.is_complex() else x


def measure(op, dtype, count):
    """{"ours", "eager"}: the largest distances; or why there are none."""
    ours = eager = 0.0
    measured = 0
    torch.manual_seed(0)
    for sample in islice(op.sample_inputs("cpu", dtype, requires_grad=False), count):
        leaves, spec = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
        tensors = [x.detach().clone() for x in leaves if isinstance(x, torch.Tensor)]

        def run(module, convert=lambda x: x):
            torch.manual_seed(1)
            return floats(module(*(convert(x.clone()) for x in tensors)))

        module = Sample(op.op, leaves, spec)
        try:
            want = run(module)
            torch.manual_seed(2)
            if not want or not all(torch.equal(a, b) for a, b in zip(want, floats(module(*tensors))) if not a.isnan().any()):
                continue
            exact = run(Sample(op.op, [wide(x) for x in leaves], spec), wide)
            theirs = distance(want, exact, dtype)
            exported = torch.export.export(module, tuple(tensors), strict=False)
        except Exception:  # noqa: BLE001: eager's and the export's own refusals
            continue
        try:
            got = run(toroid.compile(exported))
        except toroid.UnsupportedError:
            return {"why": "unsupported"}
        ours, eager, measured = max(ours, distance(got, exact, dtype)), max(eager, theirs), measured + 1
    return {"ours": ours, "eager": eager} if measured else {"why": "no float64 result to compare with"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("-k", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    # The database seeds each call, which hides what is random.
    common_methods_invocations.wrapper_set_seed = lambda op, *args, **kwargs: op(*args, **kwargs)
    dtype = getattr(torch, args.dtype)
    rows = {}
    if os.path.exists(args.out):
        with open(args.out) as f:
            rows = {row["op"]: row for row in map(json.loads, f)}
    part, parts = map(int, args.shard.split("/"))
    with open(args.out, "a") as out:
        for index, op in enumerate(op_db):
            name = op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")
            if index % parts != part or name in rows or not re.search(args.only, name) or dtype not in op.dtypes:
                continue
            try:
                row = measure(op, dtype, args.k)
            except Exception as error:  # noqa: BLE001: one operator does not end the run
                row = {"why": f"{type(error).__name__}: {error}"[:200]}
            rows[name] = {"op": name, "dtype": args.dtype, **row}
            out.write(json.dumps(rows[name]) + "\n")
            out.flush()
            if sys.stderr.isatty():
                print(f"\r{index + 1} of {len(op_db)} {name:50}", end="", file=sys.stderr)
    measured = sorted((row for row in rows.values() if "ours" in row), key=lambda row: row["ours"] / row["eager"])
    for row in [row for row in measured if row["ours"] > 2 * row["eager"]]:
        print(f"{row['op']}: {row['ours']:.2g}, eager {row['eager']:.2g}")
    within = sum(row["ours"] <= 2 * row["eager"] for row in measured)
    print(f"{within} of {len(measured)} operators within twice eager's distance from float64")


if __name__ == "__main__":
    main()
