"""What an export assumed of its inputs' sizes (ExportedProgram's guards, Python text) as sympy conditions."""

from __future__ import annotations

import ast
from typing import Any

import sympy
import torch
from torch.utils._sympy import functions

from ._errors import UnsupportedError
from .fx_symbols import expr_of, is_fraction

# How guards call sympy's functions; others come under sympy's own names.
_GUARD_FUNCTIONS = {
    "max": "Max", "min": "Min", "torch.sym_max": "Max", "torch.sym_min": "Min", "math.trunc": "TruncToInt", "int": "TruncToInt",
    "math.ceil": "CeilToInt", "math.floor": "FloorToInt", "round": "RoundToInt", "float": "ToFloat", "torch.sym_float": "ToFloat",
    "torch.sym_not": "Not", "abs": "Abs", "math.pow": "FloatPow", "math.sqrt": "OpaqueUnaryFn_sqrt", "torch._sym_sqrt": "OpaqueUnaryFn_sqrt",
}  # fmt: skip


def read_guard(line: str, placeholders: dict[str, Any]) -> Any:
    """The guard `max(L['x'].size()[0], 4) <= 10` in sympy. What cannot be read is refused: the export assumed it."""

    def refuse() -> UnsupportedError:
        return UnsupportedError("unsupported", f"guard `{line}`")

    def function(name: str) -> Any:
        name = _GUARD_FUNCTIONS.get(name, name)
        for module in (functions, sympy):
            if hasattr(module, name):
                return getattr(module, name)
        raise refuse()

    def path_of(node: ast.AST) -> str:
        if isinstance(node, ast.Name) and node.id == "L":
            return ""
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            base = path_of(node.value)
            return f"{base}_{node.slice.value}" if base else str(node.slice.value)
        raise refuse()

    def number(path: str) -> Any:
        value = placeholders[path].meta.get("val") if path in placeholders else None
        if not isinstance(value, (int, float, torch.SymInt, torch.SymFloat, torch.SymBool)):
            raise refuse()
        return sympy.sympify(expr_of(value))

    def size(path: str, dim: Any) -> Any:
        value = placeholders[path].meta.get("val") if path in placeholders else None
        if not isinstance(value, torch.Tensor) or not isinstance(dim, int) or not 0 <= dim < value.dim():
            raise refuse()
        return sympy.sympify(expr_of(value.shape[dim]))

    binary = {
        ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
        ast.FloorDiv: functions.FloorDiv, ast.Mod: functions.PythonMod,
        ast.Pow: lambda a, b: functions.PowByNatural(a, b) if b.is_Integer and b >= 0 else functions.FloatPow(a, b),
        ast.Div: lambda a, b: (functions.FloatTrueDiv if is_fraction(a) or is_fraction(b) else functions.IntTrueDiv)(a, b),
    }  # fmt: skip
    compares = {ast.Eq: sympy.Eq, ast.NotEq: sympy.Ne, ast.Lt: sympy.Lt, ast.LtE: sympy.Le, ast.Gt: sympy.Gt, ast.GtE: sympy.Ge}

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            return sympy.sympify(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            operand = value(node.operand)
            return sympy.Not(operand) if isinstance(node.op, ast.Not) else -operand
        if isinstance(node, ast.BoolOp):
            return (sympy.And if isinstance(node.op, ast.And) else sympy.Or)(*map(value, node.values))
        if isinstance(node, ast.BinOp) and type(node.op) in binary:
            return binary[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Compare) and all(type(op) in compares for op in node.ops):
            sides = [value(side) for side in (node.left, *node.comparators)]
            return sympy.And(*(compares[type(op)](a, b) for op, a, b in zip(node.ops, sides, sides[1:])))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.value, ast.Call):
            call = node.value
            if isinstance(call.func, ast.Attribute) and call.func.attr == "size":
                return size(path_of(call.func.value), node.slice.value)
        if isinstance(node, ast.Subscript):
            return number(path_of(node))
        if isinstance(node, ast.Call) and not node.keywords:
            return function(ast.unparse(node.func))(*map(value, node.args))
        raise refuse()

    try:
        return value(ast.parse(line, mode="eval").body)
    except (SyntaxError, TypeError, ValueError, RecursionError):
        raise refuse() from None
