"""One item of a suite in a process of its own, since engines keep threads, memory and settings: exports it, compiles it
with Toroid, makes its peers ready, then runs what the suite wants; prints one line of JSON. Started by `./dev bench`."""
import argparse
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
sys.path[:0] = [here, os.path.join(root, "tests", "models"), os.path.join(root, "scripts")]
warnings.filterwarnings("ignore")

import torch

from harness import Compiled, Exported, command, compare
from items import SUITES
from peers import PEERS
from toroid_ctypes import Package
from zoo import ZOO


def fresh_folder():
    """on tmpfs where there is one: what is measured is not the disk"""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def export_folder(suite, item):
    """where the exports of an item are kept for the next run, until what makes them changes"""
    text = hashlib.sha256()
    for path in (os.path.join(here, "items.py"), os.path.join(root, "tests", "models", "zoo.py")):
        with open(path, "rb") as f:
            text.update(f.read())
    # Models of the zoo are the same in every suite.
    kind = "zoo" if item in ZOO else suite
    return os.path.join(root, "build", "bench", "exports-" + text.hexdigest()[:12], kind, item)


class Engines:
    """the calls of an item: Toroid's and its peers', each compared with eager's outputs once"""

    def __init__(self, args, item, exported, work):
        self.seconds, self.reasons, self.calls = {}, {}, {}
        want = exported.load("out", 0)
        tolerance = exported.info["tolerance"]
        options, package = ["--cache", os.path.join(work, "cache")], os.path.join(work, "m.toroid.pt2")
        self.seconds["cold"] = Compiled(args.toroid, exported, *options, package=package).seconds
        compiled = Compiled(args.toroid, exported, *options, package=package)
        self.seconds["warm"] = compiled.seconds
        library = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(args.toroid))), "lib")
        ours = Package(library, compiled.package, exported.load("in", 0), want, args.threads)
        compare(ours(), want, tolerance)
        self.calls["toroid"] = ours
        for name in [p for p in item.peers if p in args.peers.split(",")]:
            start = time.monotonic()
            try:
                call = PEERS[name](exported, args.threads)
                # A peer that computes something else is no peer; its own tolerance may be wider than ours.
                compare(getattr(call, "outputs", call)(), want, max(tolerance, 1e-3))
                self.calls[name] = call
                self.seconds[name] = time.monotonic() - start
            except Exception as error:
                self.reasons[name] = f"{type(error).__name__}: {error}".strip().splitlines()[0][:160]


def measure(calls, seconds, rounds=5):
    """{engine: {median, min} in ms}: one timed call of each after another, so that all meet the same machine"""
    inner, times = {}, {name: [] for name in calls}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        # What is quicker than the clock's noise is called a few times.
        inner[name] = max(1, min(1000, int(2e-4 / (time.perf_counter() - start))))
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(times["toroid"]) < rounds:
        for name, call in calls.items():
            # Threads of the one before spin on for tens of ms (measured: ONNX Runtime's more than 20), and whoever comes
            # next would have one core less; a call to get warm again comes first.
            time.sleep(0.05)
            call()
            start = time.perf_counter()
            for _ in range(inner[name]):
                call()
            times[name].append((time.perf_counter() - start) * 1e3 / inner[name])
    return {name: {"median": round(statistics.median(t), 5), "min": round(min(t), 5)} for name, t in times.items()}


def run_times(args, item, exported, work):
    engines = Engines(args, item, exported, work)
    return {"ms": measure(engines.calls, args.seconds), "reasons": engines.reasons,
            "compile_seconds": {name: round(s, 3) for name, s in engines.seconds.items()}}


def run_contention(args, item, exported, work):
    """quiet, then beside a busy loop on one core; the loop is ours and ends with this"""
    engines = Engines(args, item, exported, work)
    quiet = measure(engines.calls, args.seconds)
    core = min(os.sched_getaffinity(0))
    loop = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"])
    try:
        busy = measure(engines.calls, args.seconds)
    finally:
        loop.kill()
        loop.wait()
    slower = {name: round(busy[name]["median"] / quiet[name]["median"], 3) for name in quiet}
    return {"ms": quiet, "busy_ms": busy, "slower": slower, "reasons": engines.reasons}


def run_compile(args, item, exported, work):
    """cold and warm compilations in turn, the archive in the page cache, the output on tmpfs; and where the time goes"""
    with open(exported.archive, "rb") as f:
        while f.read(1 << 24):
            pass
    cache, package = os.path.join(work, "cache"), os.path.join(work, "m.toroid.pt2")
    cold, warm, steps = [], [], {}
    for _ in range(3):
        subprocess.run(["rm", "-rf", cache], check=True)
        cold.append(Compiled(args.toroid, exported, "--cache", cache, package=package).seconds)
        for _ in range(2):
            warm.append(Compiled(args.toroid, exported, "--cache", cache, package=package).seconds)
    done = subprocess.run([args.toroid, "compile", exported.archive, "-o", package, "--cache", cache, "--time"], capture_output=True, text=True, check=True)
    for ms, step in re.findall(r"^ *([0-9.]+) ms +(\S.*)$", done.stdout + done.stderr, re.M):
        steps[step.strip()] = float(ms)
    seconds = {"cold": round(min(cold), 3), "warm": round(min(warm), 3)}
    reasons = {}
    if "aotinductor" in args.peers.split(","):
        # In a process of its own, with an empty cache.
        code = ("import sys, time, torch, torch._inductor\nprogram = torch.export.load(sys.argv[1])\n"
                "start = time.monotonic()\n"
                "torch._inductor.aoti_compile_and_package(program, package_path=sys.argv[2])\n"
                "print('seconds', time.monotonic() - start)")
        with fresh_folder() as folder:
            done = subprocess.run([sys.executable, "-c", code, exported.archive, folder + "/m.pt2"], capture_output=True,
                                  text=True, env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder + "/cache"})
        if done.returncode:
            reasons["aotinductor"] = done.stderr.strip().splitlines()[-1][:160]
        else:
            seconds["aotinductor"] = round(float(re.search(r"seconds (\S+)", done.stdout)[1]), 3)
    return {"seconds": seconds, "steps_ms": steps, "reasons": reasons}


def peak_of(call):
    """the most bytes that PyTorch's allocator had out at once in a call, above what it had before"""
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def run_memory(args, item, exported, work):
    """peak bytes of a call: our arena and outputs, and what PyTorch's allocator hands out"""
    package = Compiled(args.toroid, exported, package=os.path.join(work, "m.toroid.pt2")).package
    info = json.loads(command(args.toroid, "info", package, "--json"))
    outputs = sum(a.nbytes for a in exported.load("out", 0))
    row = {"bytes": {"toroid": info["peak_bytes"] + outputs}, "lower_bound": info["lower_bound_bytes"] + outputs, "reasons": {}}
    for name in ("eager", "inductor"):
        if name not in args.peers.split(","):
            continue
        try:
            row["bytes"][name] = peak_of(PEERS[name](exported, args.threads))
        except Exception as error:
            row["reasons"][name] = f"{type(error).__name__}: {error}".strip().splitlines()[0][:160]
    return row


RUNS = {"compile": run_compile, "memory": run_memory, "contention": run_contention}


def main():
    parser = argparse.ArgumentParser()
    for name in ("suite", "item", "toroid", "peers"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    item = SUITES[args.suite]()[args.item]
    folder = export_folder(args.suite, args.item)
    exported = Exported(args.item, folder, dynamic=False, build=item.build, reference=False)
    with fresh_folder() as work:
        row = RUNS.get(args.suite, run_times)(args, item, exported, work)
    print("\nrow " + json.dumps(row), flush=True)
    # Engines' threads may not end by themselves.
    os._exit(0)


if __name__ == "__main__":
    main()
