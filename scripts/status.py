"""Writes docs/status.md from docs/status.json (what `./dev zoo` and `./dev bench` measured) and the last run of the tests
(build/tests.xml). An empty cell was not measured; nothing here is written by hand.

  ./dev status [--check] [--docs docs]      --check: exits 1 while a cell is empty or a model is wrong
"""
import argparse
import json
import os
import sys
import xml.etree.ElementTree as ElementTree

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Part, folders, tests by the beginning of their names.
PARTS = [
    ("1 repository", ["cli", "scripts", "tests"], ["test_whole", "test_base", "text_", "cli_"]),
    ("2 importer", ["src/import", "src/graph", "src/ops"], ["test_import", "test_graph", "test_ops", "models_import"]),
    ("3 symbolic shapes", ["src/sym"], ["test_sym", "models_flow", "models_inputs"]),
    ("4 passes, lowering, fusion, plan", ["src/loop", "src/lower", "src/fuse", "src/plan"],
     ["test_loop", "test_lower", "test_fuse", "test_plan", "text_fuse", "text_plan", "text_lower"]),
    ("5 code generation", ["src/emit", "src/target"], ["test_emit", "test_target", "cli_targets"]),
    ("6 threads", ["runtime/pool.cpp", "runtime/cores.cpp"], ["test_runtime"]),
    ("7 interpreter", ["src/interp"], ["test_interp"]),
    ("8 build", ["src/build"], ["test_build"]),
    ("9 package and runtime", ["src/package", "runtime"], ["test_package", "test_runtime", "models_zoo", "cli_examples"]),
    ("10 progress and errors", ["src/driver"], ["test_driver", "cli_options", "cli_hostile"]),
]


def lines_of_code(paths):
    count = 0
    for path in paths:
        full = os.path.join(root, path)
        files = [full] if os.path.isfile(full) else [
            os.path.join(d, f) for d, _, names in os.walk(full) for f in names
            if f.endswith((".cpp", ".h", ".c", ".inc", ".def", ".py", ".sh"))]
        for file in files:
            with open(file, errors="replace") as f:
                count += sum(1 for line in f if line.strip())
    return count


def test_results():
    """name -> passed, of the last ./dev test; None before the first"""
    path = os.path.join(root, "build", "tests.xml")
    if not os.path.exists(path):
        return None
    results = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        results[case.get("name")] = case.get("status") == "run" and case.find("failure") is None
    return results


def number(value, form):
    return "" if value is None else form.format(value)


def yes(row, key):
    return "" if not row else "yes" if row.get(key) else f"no: {row.get('why', '')}"[:80]


def main():
    parser = argparse.ArgumentParser(prog="./dev status", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--docs", default=os.path.join(root, "docs"), help="the folder of status.json and status.md")
    args = parser.parse_args()
    path = os.path.join(args.docs, "status.json")
    data = {}
    if os.path.exists(path):
        with open(path) as f:
            data = json.load(f)
    tests = test_results()
    if tests is not None:
        data["tests"] = {part: [sum(ok for name, ok in tests.items() if name.startswith(tuple(prefixes))),
                                sum(not ok for name, ok in tests.items() if name.startswith(tuple(prefixes)))]
                         for part, _, prefixes in PARTS}
        with open(path, "w") as f:
            json.dump(data, f, indent=1, sort_keys=True)
            f.write("\n")
    empty = wrong = 0
    out = ["# Status", "", "Written by `./dev status` from measurements; an empty cell was not measured.", "",
           "| part | lines of code | groups of tests that pass | fail |", "|---|---:|---:|---:|"]
    for part, folders, _ in PARTS:
        passed, failed = data.get("tests", {}).get(part, ("", ""))
        empty += passed in ("", 0)
        wrong += bool(failed)
        out.append(f"| {part} | {lines_of_code(folders)} | {passed} | {failed} |")
    out += ["", f"Times: {data.get('bench_machine', '')}", "",
            "| model | static | dynamic | PyTorch's loader | distance from float64 over eager's | compile s, cold | warm "
            "| run ms | best peer | its ms |", "|---|---|---|---|---:|---:|---:|---:|---|---:|"]
    for name in model_names():
        rows, bench = data.get("models", {}).get(name, {}), data.get("bench", {}).get(name, {})
        static, dynamic = rows.get("static"), rows.get("dynamic")
        over = [r["over_eager"] for r in (static, dynamic) if r and "over_eager" in r]
        ms = bench.get("ms", {})
        loader = "" if not static or not dynamic else "yes" if static["in_torch"] and dynamic["in_torch"] else "no"
        cells = [yes(static, "right"), yes(dynamic, "right"), loader, number(max(over) if over else None, "{:.2f}"),
                 number(bench.get("cold_seconds"), "{:.2f}"), number(bench.get("warm_seconds"), "{:.2f}"),
                 number(ms.get("toroid"), "{:.2f}"), bench.get("best_peer", ""),
                 number(ms.get(bench.get("best_peer")), "{:.2f}")]
        empty += sum(not c for c in cells)
        wrong += any(c.startswith("no") for c in cells)
        out.append(f"| {name} | " + " | ".join(cells) + " |")
    with open(os.path.join(args.docs, "status.md"), "w") as f:
        f.write("\n".join(out) + "\n")
    print(f"docs/status.md: {empty} empty cells, {wrong} rows with something wrong")
    if args.check and (empty or wrong):
        sys.exit(1)


def model_names():
    """in the order of zoo.py, read as text: PyTorch is not needed here"""
    with open(os.path.join(root, "tests", "models", "zoo.py")) as f:
        lines = f.read().splitlines()
    return [lines[i + 1].split("(")[0].removeprefix("def ") for i, line in enumerate(lines) if line == "@model"]


if __name__ == "__main__":
    main()
