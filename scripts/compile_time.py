#!/usr/bin/env python3
"""How long torch.compile takes with Toroid, beside Inductor and beside a backend that compiles nothing.

Each measurement is a process of its own: import, one warm-up compile, then the model's first call. `none` runs
AOTAutograd's graph as it is, so a backend's own share is what it takes above `none`. Cold: an empty cache folder.
Warm: later processes with the cache of the first. `none` and warm are the better of two processes. Dynamo's seconds vary
by more than Toroid's share is: the column `compiler` is what a clock around Toroid's compiler shows.

  PYTHONPATH=build/python scripts/compile_time.py [--models mlp,bert_base,resnet50] [--engines none,toroid,inductor] [--train]
                                                  [--write docs/benchmarks.md]   (./dev bench-compile does)
"""
import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time


def mlp():
    import torch

    layers = [torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)]
    return torch.nn.Sequential(*layers), (torch.randn(8, 64),)


def bert_base():
    import torch
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(), add_pooling_layer=True)
    return model, (torch.randint(0, 30000, (1, 128)),)


def resnet50():
    import torch
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(ResNetConfig()), (torch.randn(1, 3, 224, 224),)


MARKS = ("<!-- compile: begin -->", "<!-- compile: end -->")
MODELS = {"mlp": mlp, "bert_base": bert_base, "resnet50": resnet50}


def measure(model_name, engine, train):
    """Seconds of the first call in this process, and of these in Toroid's compiler."""
    import torch

    if engine == "toroid":
        from toroid.backend import listening, toroid

    torch.manual_seed(0)
    model, inputs = MODELS[model_name]()
    model = model.train() if train else model.eval()

    def backend():
        if engine == "toroid":
            return toroid
        if engine != "none":
            return engine
        from torch._dynamo.backends.common import aot_autograd

        def as_it_is(gm, example_inputs):
            def run(args):
                return gm.forward(*args)

            run._boxed_call = True
            return run

        return aot_autograd(fw_compiler=as_it_is, keep_inference_input_mutations=True)

    def call(function, args):
        with torch.set_grad_enabled(train):
            out = function(*args)
        leaf = next(x for x in torch.utils._pytree.tree_leaves(out) if isinstance(x, torch.Tensor))
        if train:
            leaf.sum().backward()

    used = backend()
    call(torch.compile(lambda x: torch.nn.functional.linear(x, x).relu(), backend=used), (torch.randn(4, 4, requires_grad=train),))
    reports = []
    with listening(reports) if engine == "toroid" else contextlib.nullcontext():
        start = time.perf_counter()
        call(torch.compile(model, backend=used), inputs)
        return time.perf_counter() - start, sum(report.seconds for report in reports)


def run(model, engine, train, folder):
    env = {**os.environ, "TOROID_CACHE": folder + "/toroid", "TORCHINDUCTOR_CACHE_DIR": folder + "/inductor"}
    command = [sys.executable, os.path.abspath(__file__), "--one", model, engine, "1" if train else "0"]
    out = subprocess.run(command, env=env, capture_output=True, text=True)
    if out.returncode:
        return None, out.stderr.strip().splitlines()[-1][:200] if out.stderr.strip() else f"exit {out.returncode}"
    return json.loads(out.stdout.strip().splitlines()[-1]), ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--engines", default="none,toroid,inductor")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--write", help="a Markdown file with the marks of this table")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        model, engine, train = options.one
        print(json.dumps(measure(model, engine, train == "1")))
        return
    lines = ["| seconds | engine | cold | its own | compiler | warm | its own | compiler |", "|---|---|---:|---:|---:|---:|---:|---:|"]
    for model in options.models.split(","):
        base = None
        for engine in options.engines.split(","):
            with tempfile.TemporaryDirectory() as folder:
                cold, why = run(model, engine, options.train, folder)
                again = [run(model, engine, options.train, folder)[0] for _ in range(1 if engine == "none" else 2)] if cold else []
            if not cold or None in again:
                lines.append(f"| {model} | {engine} | {why} | | | | | |")
            elif engine == "none":
                base = min(cold, *again)[0]
                lines.append(f"| {model} | none | {base:.2f} | | | | | |")
            else:
                cells = [text for total, inside in (cold, min(again)) for text in (
                    f"{total:.2f}", f"{total - base:.2f}" if base else "", f"{inside:.2f}" if engine == "toroid" else "")]
                lines.append(f"| {model} | {engine} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    if options.write:
        with open(options.write) as file:
            text = file.read()
        begin, end = MARKS
        with open(options.write, "w") as file:
            file.write(re.sub(f"{begin}.*{end}", lambda _: "\n".join([begin, *lines, end]), text, flags=re.S))


if __name__ == "__main__":
    main()
