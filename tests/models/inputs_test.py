"""What callers may pass: tensors laid out otherwise than in the export, and sizes that the export assumed something about.
Each model through the command line and through PyTorch's package loader.

  python inputs_test.py --toroid build/bin/toroid
"""
import argparse
import os
import sys
import tempfile
import warnings

import numpy as np
import torch

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(os.path.dirname(here), "python")]
from functions import Function
from harness import Wrong, command

warnings.filterwarnings("ignore")
AUTO = torch.export.Dim.AUTO


def compiled(toroid, folder, f, args, shapes=None):
    """(exported program, path of its package)"""
    exported = torch.export.export(Function(f), args, dynamic_shapes=shapes and (shapes,), strict=False)
    archive, package = os.path.join(folder, "m.pt2"), os.path.join(folder, "m.toroid.pt2")
    torch.export.save(exported, archive)
    command(toroid, "compile", archive, "-o", package)
    return exported, package


def check_expanded(toroid, folder):
    """Exported with expanded tensors: called with these, and with ones whose elements all differ."""
    row, mask = torch.randn(6), torch.randn(1, 1, 5, 6) > 0

    def f(x, mask):
        return torch.where(mask, x[:, None] * 2, x[:, None].transpose(2, 3).flatten()[0]).sum(-1), x[1:]

    def cases(b):
        yield row.expand(b, 6)[:, None], mask.expand(b, 3, 5, 6)
        yield torch.randn(b, 1, 6), torch.randn(b, 3, 5, 6) > 0
        yield torch.randn(6, 1, b).permute(2, 1, 0), torch.randn(6, 5, b, 3).permute(2, 3, 1, 0) > 0

    for shapes, batches in ((None, [4]), (({0: AUTO}, {0: AUTO}), [4, 7])):
        exported, package = compiled(toroid, folder, f, next(cases(4)), shapes)
        loaded = torch._inductor.aoti_load_package(package)
        for args in (args for b in batches for args in cases(b)):
            want = exported.module()(*args)
            given, out = os.path.join(folder, "in.npz"), os.path.join(folder, "out.npz")
            np.savez(given, **{f"arg{i}": x.numpy() for i, x in enumerate(args)})
            command(toroid, "run", package, "--inputs", given, "--outputs", out)
            with np.load(out) as results:
                got = [torch.from_numpy(results[f"out{i}"]) for i in range(2)]
            for values in (got, loaded(*args)):
                for a, b in zip(values, want):
                    torch.testing.assert_close(a, b)


GUARDS = {
    "max": lambda a, b: max(a, b) > 10,
    "min": lambda a, b: min(a, b) == a,
    "quotient": lambda a, b: a / b > 0.7,
    "square": lambda a, b: a**2 > 50,
    "half": lambda a, b: int(a * 0.5) == 3,
    "rounded": lambda a, b: round(a / 3) == 2,
    "up": lambda a, b: -(-a // 2) == 4 and b != 9,
    "remainder": lambda a, b: (a * b) % 6 != 0,
}


def check_guards(toroid, folder):
    """A branch on sizes: where the other one would be taken, the package refuses as the exported module does."""
    given = os.path.join(folder, "in.npz")
    for name, condition in GUARDS.items():
        exported, package = compiled(toroid, folder, lambda x, y: (x + 1, y * 2) if condition(x.shape[0], y.shape[0]) else (x - 1, y),
                                     (torch.randn(7), torch.randn(6)), ({0: AUTO}, {0: AUTO}))
        module, agreed = exported.module(), set()
        for a, b in ((7, 6), (8, 6), (7, 3), (7, 9), (2, 6), (12, 6), (9, 9), (6, 12)):
            np.savez(given, arg0=np.ones(a, np.float32), arg1=np.ones(b, np.float32))
            try:
                module(torch.ones(a), torch.ones(b))
                wanted = True
            except Exception:
                wanted = False
            try:
                command(toroid, "run", package, "--inputs", given)
                got = True
            except Wrong as error:
                got = False
                if "error: assertion" not in str(error) and "error: bad_input" not in str(error):
                    raise
            if wanted != got:
                raise Wrong(f"{name}, sizes {a} and {b}: PyTorch {'takes' if wanted else 'refuses'} them, the package does not agree")
            agreed.add(got)
        if agreed != {True, False}:
            raise Wrong(f"{name}: no sizes tell its branches apart")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toroid", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check_expanded(os.path.abspath(args.toroid), folder)
        check_guards(os.path.abspath(args.toroid), folder)
    print("inputs: right")


if __name__ == "__main__":
    main()
