"""Times Toroid beside its peers, interleaved in one run.

  ./dev bench [ITEM...] [--suite SUITE] [--peers eager,inductor,…] [--threads 1,2] [--seconds S] [--json]

Suites: models (the zoo), compile, memory, contention (beside a busy loop on one core), gemm, conv, attention, fusion,
overhead. First the machine's own peak and bandwidth are measured; then each item runs in a process of its own, one timed
call of each engine after another, with 1 and 2 threads; medians and minima. A peer that cannot take an item is left out,
the reason below. Results: docs/bench/SUITE.json and SUITE.svg, a table in docs/benchmarks.md, and for the models
docs/status.json, which ./dev status reads. Items not named keep what an earlier run said of them. `-` as results: none.
"""
import argparse
import json
import os
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
sys.path[:0] = [here, os.path.join(root, "tests", "models"), os.path.join(root, "scripts")]

import machine
from chart import chart
from items import SUITES, geometric_mean
from peers import PEERS
from tables import SUITE_TABLES, write_section

DEFAULT_PEERS = {"compile": "aotinductor", "memory": "eager,inductor", "contention": "eager,inductor,onnxruntime,openvino"}


def run_item(args, suite, name, threads, peers):
    """a row, or None and what went wrong"""
    cache = os.path.join(root, "build", "bench", "inductor")
    # Peers read their number of threads from here, and keep what they compile.
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": cache}
    command = [sys.executable, os.path.join(here, "child.py"), "--suite", suite, "--item", name, "--toroid", args.toroid,
               "--peers", peers, "--threads", str(threads), "--seconds", str(args.seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as child:
        try:
            out, said = child.communicate(timeout=args.limit)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return None, f"nothing after {args.limit:.0f} s"
    rows = [line for line in out.splitlines() if line.startswith("row ")]
    if child.returncode or not rows:
        return None, (said.strip().splitlines() or ["no output"])[-1][:300]
    return json.loads(rows[-1][4:]), ""


def read_json(path):
    if os.path.exists(path):
        with open(path) as f:
            return json.load(f)
    return {}


def write_json(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(data, f, indent=1, sort_keys=True)
        f.write("\n")


def fill_status(rows, host):
    """docs/status.json's `bench` from the rows of the models"""
    path = os.path.join(root, "docs", "status.json")
    data = read_json(path)
    for name, row in rows.items():
        peers = {e: t["median"] for e, t in row["ms"].items() if e != "toroid"}
        data.setdefault("bench", {})[name] = {
            "ms": {e: t["median"] for e, t in row["ms"].items()}, "best_peer": min(peers, key=peers.get) if peers else "",
            "cold_seconds": row["compile_seconds"]["cold"], "warm_seconds": row["compile_seconds"]["warm"]}
    data["bench_machine"] = f"{host['cpu']}, 2 threads"
    write_json(path, data)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="*")
    parser.add_argument("--toroid", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--suite", default="models", choices=SUITES)
    parser.add_argument("--peers", help="comma-separated, of " + ", ".join(PEERS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=2, help="for each engine")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that one item may take, its compilations included")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--results", default=os.path.join(root, "docs"), help="the folder of docs/bench; - for none")
    args = parser.parse_args()
    suite = args.suite
    known = SUITES[suite]()
    for name in args.items:
        if name not in known:
            sys.exit(f"error: bad_option: no item `{name}` in suite {suite}; there are {', '.join(known)}")
    peers = args.peers if args.peers is not None else DEFAULT_PEERS.get(suite, ",".join(PEERS))
    for peer in filter(None, peers.split(",")):
        if peer not in PEERS:
            sys.exit(f"error: bad_option: no peer `{peer}`; there are {', '.join(PEERS)}")
    counts = [int(t) for t in args.threads.split(",")] if suite not in ("compile", "memory") else [2]

    host = {**machine.describe(os.path.join(os.path.dirname(os.path.abspath(args.toroid)), "machine_bench")),
            "versions": machine.versions(), "day": time.strftime("%Y-%m-%d")}
    say = (lambda *_: None) if args.json else lambda text: print(text, flush=True)
    for line in machine.text(host):
        say(line)
    table = SUITE_TABLES.get(suite, SUITE_TABLES["models"])
    path = os.path.join(args.results, "bench", suite + ".json")
    results = read_json(path) if args.results != "-" else {}
    rows = {str(t): {} for t in counts}
    failed = 0
    for threads in counts:
        engines = ["toroid"] + [p for p in PEERS if p in peers.split(",") and any(p in i.peers for i in known.values())]
        say(f"\n{suite}, {threads} thread{'s' * (threads != 1)}")
        say(table.head(engines))
        for name in args.items or known:
            row, why = run_item(args, suite, name, threads, peers)
            if row is None:
                failed += 1
                print(f"{name}: FAILED: {why}", file=sys.stderr, flush=True)
                continue
            rows[str(threads)][name] = row
            say(table.line(name, row, engines, known[name], host, threads))
            for peer, reason in row["reasons"].items():
                say(f"    {peer}: {reason}")
            if args.results != "-":
                # After each item: a run cut short keeps what it had.
                results.setdefault("threads", {}).setdefault(str(threads), {})[name] = row
                results["host"] = host
                write_json(path, results)
        say(table.sums(rows[str(threads)], engines))
    if args.json:
        print(json.dumps({"host": host, "suite": suite, "threads": rows}, indent=1))
    if args.results != "-" and results.get("threads"):
        everything = {t: {n: r for n, r in results["threads"].get(t, {}).items() if n in known} for t in results["threads"]}
        last = max(everything)
        engines = ["toroid"] + [p for p in PEERS if any(p in table.values(r) for r in everything[last].values())]
        ratios = {name: table.ratios(row) for name, row in everything[last].items()}
        with open(os.path.join(args.results, "bench", suite + ".svg"), "w") as f:
            f.write(chart(f"{suite}, {last} threads: times Toroid's {table.measure}", ratios, engines[1:]))
        write_section(os.path.join(args.results, "benchmarks.md"), suite, table, everything, engines, known, host)
        if suite == "models" and "2" in everything:
            fill_status(everything["2"], host)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
