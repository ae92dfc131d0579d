"""Exports models of the zoo, compiles and runs them, compares with PyTorch, and notes what it found.

  python check_zoo.py --toroid build/bin/toroid [NAME...] [--folder build/zoo] [--results docs/status.json] [--bench]

For each model, static and dynamic: every case against eager's outputs and a float64 reference, one and two threads bit for
bit, and the same package in PyTorch's own loader. The results go into the file that `./dev status` reads.
"""
import argparse
import json
import os
import sys
import traceback

import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Compiled, Exported, Wrong
from zoo import ZOO


def check(toroid, name, folder, dynamic, row):
    """fills row; raises Wrong"""
    compiled = Compiled(toroid, Exported(name, folder, dynamic), cold=True)
    row["compile_seconds"] = round(compiled.seconds, 2)
    cases = range(len(compiled.exported.info["cases"]))
    results = [compiled.check(case) for case in cases]
    row["error"] = max(error for error, _ in results)
    row["over_eager"] = round(max(ratio for _, ratio in results), 2)
    one, two = compiled.run(0, threads=1), compiled.run(0, threads=2)
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two)):
        raise Wrong("one and two threads give other bits")
    row["right"] = True
    compiled.check_in_torch()
    row["in_torch"] = True
    return compiled


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--toroid", required=True)
    parser.add_argument("--folder", default="build/zoo")
    parser.add_argument("--results")
    parser.add_argument("--bench", action="store_true", help="time the static model too")
    parser.add_argument("--keep", action="store_true", help="leave the exports for the next time")
    args = parser.parse_args()
    for name in args.names:
        if name not in ZOO:
            sys.exit(f"error: no model `{name}`; there are {', '.join(ZOO)}")
    torch.set_num_threads(2)
    failed = 0
    for name in args.names or ZOO:
        rows = {}
        for kind in ("static", "dynamic"):
            row = rows[kind] = {"right": False, "in_torch": False}
            try:
                compiled = check(args.toroid, name, args.folder, kind == "dynamic", row)
                if args.bench and kind == "static":
                    row["run_ms"] = compiled.bench()["median_ms"]
                said = f"right, error {row['error']:.1e}, {row['over_eager']} of eager's distance, {row['compile_seconds']} s"
            except Exception as error:
                failed += 1
                if not isinstance(error, Wrong):
                    traceback.print_exc()
                row["why"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                said = f"WRONG: {error}"
            print(f"{name} {kind}: {said}", flush=True)
            if not args.keep:
                for file in os.listdir(args.folder) if os.path.isdir(args.folder) else []:
                    if file.split(".")[0] == name:
                        os.remove(os.path.join(args.folder, file))
        if args.results:
            results = {}
            if os.path.exists(args.results):
                with open(args.results) as f:
                    results = json.load(f)
            results.setdefault("models", {}).setdefault(name, {}).update(rows)
            with open(args.results, "w") as f:
                json.dump(results, f, indent=1, sort_keys=True)
                f.write("\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
