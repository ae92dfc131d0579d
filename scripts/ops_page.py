#!/usr/bin/env python3
"""Writes docs/ops.md: what becomes of every operator of PyTorch's own database (OpInfo), for each way of compiling it, and
how far from float64 it lies.

  scripts/ops_page.py [COLUMN=FILE…]

COLUMN is `toroid.compile`, `torch.compile`, `Inductor`, `AOTInductor` or another name, its FILE one or more runs of the
operator sweep (JSON lines with op, dtype and status); `accuracy=FILE` is scripts/op_accuracy.py's. What is given replaces
that column in docs/ops.json, which holds what the page shows; the others stay.
"""
import json
import os
import re
import sys
from collections import Counter

docs = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs")
SHORT = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
         "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "bool", "complex64": "c64", "complex128": "c128"}
# A case that PyTorch itself cannot export or run says nothing.
COUNTED = {"pass", "fail", "unsupported", "timeout", "crash"}


def lines_of(path):
    with open(path) as f:
        return [row for row in map(json.loads, f) if "op" in row]


def read(arguments):
    path = os.path.join(docs, "ops.json")
    data = {"columns": {}, "accuracy": {}}
    if os.path.exists(path):
        with open(path) as f:
            data = json.load(f)
    given = {}
    for argument in arguments:
        column, _, file = argument.partition("=")
        given.setdefault(column, []).extend(lines_of(file))
    for column, rows in given.items():
        if column == "accuracy":
            data["accuracy"] = {r["op"]: [r["ours"], r["eager"]] for r in rows if "ours" in r}
            continue
        ops = data["columns"][column] = {}
        data.setdefault("reasons", {})[column] = reasons = {}
        for row in rows:
            # A later run of a case replaces the earlier one.
            case = f"{row['op']}, {SHORT[row['dtype']]}"
            reasons.pop(case, None)
            if row["status"] in COUNTED:
                ops.setdefault(row["op"], {})[SHORT[row["dtype"]]] = row["status"]
            if row["status"] in ("fail", "timeout", "crash"):
                reasons[case] = short(row.get("reason", ""))
    if given:
        with open(path, "w") as f:
            f.write("{\n" + ",\n".join(f'"{part}": {{\n' + ",\n".join(
                f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(data[part].items())
            ) + "\n}" for part in ("accuracy", "columns", "reasons")) + "\n}\n")
    return data


def short(reason):
    """Without the sweep's own words before it, on one line."""
    text = re.sub(r"^sample \d+: |output \d+: |\w*AssertionError: ", "", reason)
    return " ".join(text.replace("|", "·").split())[:160]


def totals(columns):
    """column -> dtype -> statuses"""
    counts = {}
    for column, ops in columns.items():
        for statuses in ops.values():
            for dtype, status in statuses.items():
                counts.setdefault(column, {}).setdefault(dtype, Counter())[status] += 1
    return counts


def share(counter):
    return f"{counter['pass']} of {counter.total()} ({100 * counter['pass'] / counter.total():.1f}%)"


def cell(statuses):
    """`yes`, or what each dtype that does not pass is."""
    if not statuses:
        return ""
    bad = {}
    for dtype, status in statuses.items():
        if status != "pass":
            bad.setdefault(status, []).append(dtype)
    if not bad:
        return "yes"
    return "; ".join(f"{status}: {', '.join(sorted(dtypes))}" for status, dtypes in sorted(bad.items()))


def page(data):
    columns, accuracy = data["columns"], data["accuracy"]
    counts = totals(columns)
    dtypes = [d for d in SHORT.values() if any(d in rows for rows in counts.values())]
    out = ["# Operators", "", "Written by `scripts/ops_page.py` from runs of PyTorch's operator database (OpInfo): every case that "
           "exports, three samples each. What is missing is refused by name; the reasons of what fails stand at the end.", "",
           "| | " + " | ".join(dtypes) + " |", "|---|" + "---:|" * len(dtypes)]
    for column, rows in counts.items():
        out.append(f"| {column} | " + " | ".join(share(rows[d]) if d in rows else "" for d in dtypes) + " |")
    within = sum(ours <= 2 * eager for ours, eager in accuracy.values())
    out += ["", f"Distance from float64, in float32: within twice eager's for {within} of {len(accuracy)} operators. The last "
            "column is ours over eager's, both at least half a unit in the last place of the largest value.", "",
            "| operator | " + " | ".join(columns) + " | error over eager's |", "|---|" + "---|" * len(columns) + "---:|"]
    names = sorted(set().union(accuracy, *columns.values()), key=str.lower)
    for name in names:
        ratio = f"{accuracy[name][0] / accuracy[name][1]:.2f}" if name in accuracy else ""
        out.append(f"| {name} | " + " | ".join(cell(columns[c].get(name)) for c in columns) + f" | {ratio} |")
    for column, reasons in data.get("reasons", {}).items():
        if reasons:
            out += ["", f"## What fails: {column}", ""] + [f"- {case}: {reason}" for case, reason in sorted(reasons.items())]
    return "\n".join(out) + "\n"


def main():
    data = read(sys.argv[1:])
    if not data["columns"]:
        sys.exit(__doc__)
    with open(os.path.join(docs, "ops.md"), "w") as f:
        f.write(page(data))
    print(f"docs/ops.md: {', '.join(data['columns'])}; accuracy of {len(data['accuracy'])} operators")


if __name__ == "__main__":
    main()
