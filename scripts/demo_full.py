"""`./dev demo --full`: exports a BERT of 110 million parameters (random weights) with PyTorch, compiles it, runs it,
compares with eager, and times both, one call of each after another."""
import argparse
import os
import sys
import tempfile
import warnings

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(root, path) for path in ("tests/models", "scripts", "scripts/bench")]
warnings.filterwarnings("ignore")

import torch

from child import measure
from harness import Compiled, Exported
from peers import eager
from toroid_ctypes import Package

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--toroid", required=True)
args = parser.parse_args()
threads = len(os.sched_getaffinity(0))
torch.set_num_threads(threads)
with tempfile.TemporaryDirectory() as folder:
    print("exporting bert_base with PyTorch, batch and sequence dynamic …", flush=True)
    exported = Exported("bert_base", folder, dynamic=True)
    print(f"{exported.info['parameters'] / 1e6:.0f} M parameters, archive of {os.path.getsize(exported.archive) >> 20} MiB")
    compiled = Compiled(args.toroid, exported, cold=True)
    print(f"compiled in {compiled.seconds:.1f} s")
    for case, sizes in enumerate(exported.info["cases"]):
        error, ratio = compiled.check(case)
        print(f"sizes {sizes}: largest difference {error:.1e} of the largest value; "
              f"distance from float64 {ratio:.2f} times eager's")
    library = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(args.toroid))), "lib")
    package = Package(library, compiled.package, exported.load("in", 0), exported.load("out", 0), threads)
    times = measure({"toroid": package, "eager": eager(exported, threads)}, 5)
    print(f"{threads} threads, batch 2, 48 tokens: Toroid {times['toroid']['median']:.1f} ms, "
          f"PyTorch eager {times['eager']['median']:.1f} ms")
