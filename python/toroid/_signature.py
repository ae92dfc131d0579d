"""A package's manifest as the rows and trees that toroid._native.make_call takes."""
from __future__ import annotations

import json
import re
from typing import Any

Tree = Any
"""None for a leaf, ("tuple", [children]), ("list", [children]) or ("dict", [children], [keys])."""


def parameters(signature: dict) -> list[dict[str, Any]]:
    """One row per leaf of the arguments."""
    written = {row["mutates_input"] for row in signature["outputs"] if "mutates_input" in row}
    rows: list[dict[str, Any]] = []
    slot = 0
    for index, row in enumerate(signature["inputs"]):
        if "constant" in row:
            rows.append({"kind": "constant", "what": f"the constant argument `{row['name']}`",
                         "value": _constant(row["constant"])})
            continue
        what = f"input {slot} (`{row['name']}`)"
        slot += 1
        if "size" in row:
            rows.append({"kind": "size", "what": what})
        else:
            rows.append({"kind": "tensor", "what": what, "written": index in written,
                         "strides": [_size(text) for text in row["strides"]]})
    return rows


def results(signature: dict) -> list[dict[str, Any]]:
    """One row per leaf of the results; what the program writes elsewhere is none."""
    rows: list[dict[str, Any]] = []
    for row in signature["outputs"]:
        if "mutates" in row or "mutates_input" in row:
            continue
        if "constant" in row:
            rows.append({"kind": "constant", "value": _constant(row["constant"])})
        elif "size" in row:
            rows.append({"kind": "size"})
        elif "alias_input" in row:
            rows.append({"kind": "tensor", "alias": row["alias_input"], "offset": _size(row["alias_offset"])})
        else:
            rows.append({"kind": "tensor"})
    return rows


def symbols(signature: dict) -> list[tuple[str, int, int]]:
    """Where a symbol's value can be read: (name, parameter, dim), dim -1 for an int argument."""
    found: dict[str, tuple[str, int, int]] = {}
    for index, row in enumerate(signature["inputs"]):
        sizes = [(row["size"], -1)] if "size" in row else [(s, d) for d, s in enumerate(_split(row.get("sizes", "")))]
        for text, dim in sizes:
            if text.isidentifier():
                found.setdefault(text, (text, index, dim))
    return list(found.values())


def call_trees(in_spec: str, out_spec: str) -> tuple[Tree, Tree, Tree] | None:
    """The trees of args, kwargs and the result; None where a spec holds types that are not tuple, list or dict."""
    try:
        spec = _tree(json.loads(in_spec)[1])
        out = _tree(json.loads(out_spec)[1])
    except (_OtherType, ValueError):
        return None
    if spec is None or spec[0] != "tuple" or [child and child[0] for child in spec[1]] != ["tuple", "dict"]:
        return None
    return spec[1][0], spec[1][1], out


class _OtherType(Exception):
    pass


_KINDS = {"builtins.tuple": "tuple", "builtins.list": "list", "builtins.dict": "dict"}


def _tree(spec: dict) -> Tree:
    if spec["type"] is None:
        return None
    kind = _KINDS.get(spec["type"])
    if not kind:
        raise _OtherType(spec["type"])
    children = [_tree(child) for child in spec["children_spec"]]
    if kind != "dict":
        return kind, children
    keys = json.loads(spec["context"])
    # Keys that JSON cannot hold as they were are torch's to restore.
    if not all(isinstance(key, (str, int)) for key in keys):
        raise _OtherType(spec["type"])
    return kind, children, keys


def _constant(value: Any) -> Any:
    if isinstance(value, dict):
        if "float" in value:
            return float(value["float"])
        raise ValueError("a constant argument of a kind that Python code cannot pass")
    return value


def _size(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _split(sizes: str) -> list[str]:
    """`[s0, max(s1, 2)]` at its outer commas."""
    parts, depth, part = [], 0, ""
    for char in sizes.strip().removeprefix("[").removesuffix("]"):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += char
    return [*parts, part.strip()] if part.strip() else parts
