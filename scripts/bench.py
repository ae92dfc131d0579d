"""Times models of the zoo in Toroid and beside it in PyTorch eager, Inductor, ONNX Runtime and OpenVINO, one call of each
after another, so that all meet the same machine.

  ./dev bench [MODEL...] [--peers eager,inductor,onnxruntime,openvino] [--threads N] [--seconds S] [--json]

Prints a line per model: median milliseconds of each, the ratio to the best peer, and what a compilation took: cold (nothing
cached) and warm, with the package on tmpfs where there is one. A peer that cannot take a model is shown as `-`, the reason
below. docs/status.json takes the numbers, for `./dev status`.
"""
import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
import warnings

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(root, "tests", "models"), os.path.join(root, "scripts")]
warnings.filterwarnings("ignore")

import torch

from harness import Compiled, Exported, arrays, compare
from toroid_ctypes import Package
from zoo import ZOO


def eager(exported, threads):
    module, args = ZOO[exported.name]().module, exported.args(0)

    def call():
        with torch.no_grad():
            return arrays(module(*args))

    return call


def inductor(exported, threads):
    module, args = torch.export.load(exported.archive).module(), exported.args(0)
    compiled = torch.compile(module, backend="inductor", fullgraph=True)

    def call():
        with torch.no_grad():
            return arrays(compiled(*args))

    return call


def onnxruntime(exported, threads):
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.onnx")
        torch.onnx.export(torch.export.load(exported.archive), (), path, dynamo=True, verbose=False)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {i.name: a for i, a in zip(session.get_inputs(), exported.load("in", 0))}
    return lambda: session.run(None, feed)


def openvino(exported, threads):
    import openvino as ov

    converted = ov.convert_model(torch.export.load(exported.archive))
    compiled = ov.compile_model(converted, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                                                   "INFERENCE_PRECISION_HINT": "f32"})
    request, inputs = compiled.create_infer_request(), exported.load("in", 0)

    def call():
        result = request.infer(inputs)
        return [result[o] for o in compiled.outputs]

    return call


PEERS = {"eager": eager, "inductor": inductor, "onnxruntime": onnxruntime, "openvino": openvino}


def measure(calls, seconds):
    """medians in milliseconds; the engines take turns"""
    for call in calls.values():
        for _ in range(3):
            call()
    times = {name: [] for name in calls}
    end = time.monotonic() + seconds * len(calls)
    while time.monotonic() < end or len(times["toroid"]) < 5:
        for name, call in calls.items():
            # Threads of the one before may still spin; a call to get warm again comes first.
            time.sleep(0.002)
            call()
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(t) for name, t in times.items()}


def one(name, args, folder):
    exported = Exported(name, folder, dynamic=False)
    options = ["--cache", os.path.join(folder, "cache-" + name)]
    cold = Compiled(args.toroid, exported, *options).seconds
    compiled = Compiled(args.toroid, exported, *options)
    row, reasons = {"cold_seconds": round(cold, 2), "warm_seconds": round(compiled.seconds, 2)}, {}
    want = exported.load("out", 0)
    library = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(args.toroid))), "lib")
    calls = {"toroid": Package(library, compiled.package, exported.load("in", 0), want, args.threads)}
    for peer in args.peers.split(",") if args.peers else []:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                call = PEERS[peer](exported, args.threads)
                # A peer that computes something else is no peer; its own tolerance may be wider than ours.
                compare(call(), want, max(exported.info["tolerance"], 1e-3))
            calls[peer] = call
        except Exception as error:
            reasons[peer] = f"{type(error).__name__}: {error}".strip().splitlines()[0][:160]
    compare(calls["toroid"](), want, exported.info["tolerance"])
    row["ms"] = {engine: round(ms, 4) for engine, ms in measure(calls, args.seconds).items()}
    return row, reasons


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--toroid", required=True)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3, help="for each engine")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--results", default=os.path.join(root, "docs", "status.json"))
    args = parser.parse_args()
    for name in args.names:
        if name not in ZOO:
            sys.exit(f"error: no model `{name}`; there are {', '.join(ZOO)}")
    torch.set_num_threads(args.threads)
    engines = ["toroid"] + (args.peers.split(",") if args.peers else [])
    if not args.json:
        print(f"{args.threads} threads, median ms\n{'model':20}" + "".join(f"{e:>12}" for e in engines) +
              f"{'best peer':>12}{'cold s':>9}{'warm s':>9}")
    scratch = "/dev/shm" if os.path.isdir("/dev/shm") else None
    table, failed = {}, 0
    for name in args.names or ZOO:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            try:
                row, reasons = one(name, args, folder)
            except Exception as error:
                failed += 1
                print(f"{name:20}WRONG: {error}", file=sys.stderr)
                continue
        table[name] = row
        ms = row["ms"]
        peers = {e: t for e, t in ms.items() if e != "toroid"}
        best = min(peers, key=peers.get) if peers else ""
        row["best_peer"] = best
        if not args.json:
            print(f"{name:20}" + "".join(f"{ms[e]:12.3f}" if e in ms else f"{'-':>12}" for e in engines) +
                  (f"{ms['toroid'] / peers[best]:11.2f}x" if best else f"{'-':>12}") +
                  f"{row['cold_seconds']:9.2f}{row['warm_seconds']:9.2f}", flush=True)
            for peer, reason in reasons.items():
                print(f"    {peer}: {reason}")
    if args.json:
        print(json.dumps(table, indent=1))
    if args.results:
        results = {}
        if os.path.exists(args.results):
            with open(args.results) as f:
                results = json.load(f)
        results.setdefault("bench", {}).update(table)
        results["bench_machine"] = machine(args.threads)
        with open(args.results, "w") as f:
            json.dump(results, f, indent=1, sort_keys=True)
            f.write("\n")
    sys.exit(1 if failed else 0)


def machine(threads):
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(": ")[1].strip() for line in f if line.startswith("model name")), "unknown")
    return f"{cpu}, {threads} threads"


if __name__ == "__main__":
    main()
