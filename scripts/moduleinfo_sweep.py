#!/usr/bin/env python3
"""Every torch.nn module of PyTorch's own database through torch.compile(backend="toroid"), forward and backward.

A case is a module class, an element type and train or eval mode; it passes when every sample of the database (the first
-k of them) gives eager's results, gradients of inputs and of parameters, and buffers. Ops run natively or not at all
(fullgraph_native), unless --fallback. Each case runs in a worker process that is killed after --timeout and started
again after a crash, so that no module can end the run. One JSON line per case, then counts, then

  moduleinfo: P of N pass (X%)

  PYTHONPATH=build/python scripts/moduleinfo_sweep.py [--only REGEX] [--shard i/n] [--dtypes float32,bfloat16] [--out FILE]
"""
import argparse
import json
import multiprocessing
import os
import re
import sys
import time
import traceback
from collections import Counter


def short(error, length=400):
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return (type(error).__name__ + ": " + " | ".join(lines))[:length]


def unsupported(error):
    while error is not None:
        if type(error).__name__ == "UnsupportedError" or "UnsupportedError" in str(error)[:2000]:
            return True
        error = error.__cause__
    return False


def cases(dtypes):
    import torch
    from torch.testing._internal.common_modules import module_db

    for info in module_db:
        for dtype in dtypes:
            if getattr(torch, dtype) in info.dtypes:
                for training in (True, False) if info.train_and_eval_differ else (True,):
                    yield info.name, dtype, training


def run_case(name, dtype, training, count, fallback):
    """(status, reason, samples that passed)"""
    import torch
    from torch.testing._comparison import default_tolerances
    from torch.testing._internal.common_modules import module_db
    from torch.utils import _pytree as pytree

    info = next(i for i in module_db if i.name == name)
    torch.manual_seed(0)
    inputs = list(
        info.module_inputs_func(info, device="cpu", dtype=getattr(torch, dtype), requires_grad=True, training=training)
    )
    inputs = [i for i in inputs if i.forward_input is not None][:count]
    passed = 0
    rtol, atol = default_tolerances(getattr(torch, dtype))

    def clone(x):
        if not isinstance(x, torch.Tensor):
            return x
        return x.detach().clone().requires_grad_(x.requires_grad)

    def run(module, function, sample):
        args = pytree.tree_map(clone, sample.forward_input.args)
        kwargs = pytree.tree_map(clone, sample.forward_input.kwargs)
        torch.manual_seed(1)
        out = function(*args, **kwargs)
        floats = [x for x in pytree.tree_leaves(out) if isinstance(x, torch.Tensor) and x.requires_grad]
        if floats:
            torch.manual_seed(2)
            sum((x * torch.rand_like(x)).sum() for x in floats).backward()
        leaves = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        grads = [x.grad for x in leaves if x.requires_grad] + [p.grad for p in module.parameters()]
        return [x for x in pytree.tree_leaves(out)], grads, [b.clone() for b in module.buffers()]

    def equal(got, want, what):
        assert len(got) == len(want), f"{what}: {len(got)}, expected {len(want)}"
        for index, (g, w) in enumerate(zip(got, want)):
            if isinstance(w, torch.Tensor):
                assert isinstance(g, torch.Tensor), f"{what} {index} is missing"
                try:
                    torch.testing.assert_close(g, w, rtol=4 * rtol, atol=4 * atol, equal_nan=True)
                except AssertionError as error:
                    raise AssertionError(f"{what} {index}: {error}") from None
            else:
                assert g == w or (g is None and w is None), f"{what} {index}: {g!r}, expected {w!r}"

    for index, sample in enumerate(inputs):
        def build():
            torch.manual_seed(3)
            args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
            return info.module_cls(*args, **kwargs).to(getattr(torch, dtype)).train(training)

        try:
            module = build()
            want = run(module, module, sample)
            again = build()
            random = any(not torch.equal(a, b) for a, b in zip(want[0], run(again, again, sample)[0])
                         if isinstance(a, torch.Tensor))
        except Exception:
            continue
        try:
            torch._dynamo.reset()
            module = build()
            compiled = torch.compile(module, backend="toroid", options={"fullgraph_native": not fallback})
            got = run(module, compiled, sample)
        except Exception as error:
            status = "unsupported" if unsupported(error) else "fail"
            if os.environ.get("TOROID_SWEEP_TRACE"):
                traceback.print_exc()
            return status, f"sample {index} {sample.desc or ''}: {short(error)}", passed
        draws = training and any(
            isinstance(m, torch.nn.modules.dropout._DropoutNd) and m.p > 0 for m in module.modules()
        )
        draws = draws or random or type(module).__name__ in ("RReLU", "FractionalMaxPool2d", "FractionalMaxPool3d")
        try:
            if draws:
                assert [x.shape for x in got[0] if isinstance(x, torch.Tensor)] == [
                    x.shape for x in want[0] if isinstance(x, torch.Tensor)
                ], "shapes differ"
            else:
                for g, w, what in zip(got, want, ("result", "gradient", "buffer")):
                    equal(g, w, what)
        except AssertionError as error:
            return "fail", f"sample {index} {sample.desc or ''}: {short(error)}", passed
        passed += 1
    return ("pass" if passed else "no-samples"), "", passed


def worker(pipe, count, fallback):
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    import torch

    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    while True:
        name, dtype, training = pipe.recv()
        try:
            pipe.send(run_case(name, dtype, training, count, fallback))
        except Exception as error:
            pipe.send(("fail", "harness: " + short(error), 0))


class Worker:
    def __init__(self, options):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=worker, args=(other, options.k, options.fallback), daemon=True)
        self.process.start()
        other.close()

    def ask(self, case, timeout):
        try:
            self.pipe.send(case)
            if not self.pipe.poll(timeout):
                return "timeout", f"over {timeout:g} s", 0
            return self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join(10)
            return "crash", f"exit status {self.process.exitcode}", 0

    def end(self):
        self.process.kill()
        self.process.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression searched in the module's name")
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("-k", type=int, default=3, help="samples per case")
    parser.add_argument("--timeout", type=float, default=240)
    parser.add_argument("--fallback", action="store_true", help="ops without native code run in PyTorch")
    parser.add_argument("--out")
    options = parser.parse_args()
    i, n = map(int, options.shard.split("/"))
    wanted = [c for c in cases(options.dtypes.split(",")) if re.search(options.only, c[0])][i::n]
    out = open(options.out, "w") if options.out else None
    counts, process = Counter(), None
    for case in wanted:
        process = process or Worker(options)
        start = time.time()
        status, reason, samples = process.ask(case, options.timeout)
        if status in ("timeout", "crash"):
            process.end()
            process = None
        row = {"module": case[0], "dtype": case[1], "mode": "train" if case[2] else "eval", "status": status,
               "samples": samples, "sec": round(time.time() - start, 2)}
        if reason:
            row["reason"] = reason
        counts[status] += 1
        print(json.dumps(row), flush=True)
        if out:
            out.write(json.dumps(row) + "\n")
            out.flush()
    if process:
        process.end()
    total = sum(counts.values()) - counts["no-samples"]
    print(", ".join(f"{status} {count}" for status, count in counts.most_common()))
    print(f"moduleinfo: {counts['pass']} of {total} pass ({100 * counts['pass'] / max(total, 1):.1f}%)")


if __name__ == "__main__":
    sys.exit(main())
