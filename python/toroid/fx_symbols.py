"""Size symbols of PyTorch's ShapeEnv (sympy) to the size texts of GraphBuilder: `2*s77 + 1` becomes `2*s0 + 1`.

Symbols are numbered in order of first use, so that equal programs have equal texts whatever PyTorch called the sizes.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, Union

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import SymT, symbol_is_type

from . import _native
from ._errors import UnsupportedError

SizeText = Union[int, str]

# Beyond this a range has no end: PyTorch writes its largest int minus a few, or an infinity of its own.
_ENDLESS = 1 << 60


def _bound(value: Any) -> int | None:
    """The end of a range as an int; None where there is none."""
    try:
        number = int(value)
    except (OverflowError, TypeError, ValueError, AttributeError):
        return None
    return None if abs(number) > _ENDLESS else number


# A fraction where the rest of an expression is whole: the text's functions over doubles begin with these.
_FLOAT_HEADS = {
    "FloatPow", "FloatTrueDiv", "IntTrueDiv", "ToFloat", "TruncToFloat", "RoundDecimal", "Float", "Rational", "Half",
}  # fmt: skip


def is_fraction(expr: Any) -> bool:
    """Whether an expression's value is a float."""
    head = type(expr).__name__
    if head in _FLOAT_HEADS or head.startswith("OpaqueUnaryFn_"):
        return True
    if head in ("Add", "Mul", "Pow", "Max", "Min", "Identity"):
        return any(is_fraction(arg) for arg in expr.args) or (head == "Pow" and not _natural(expr.args[1]))
    if head == "Where":
        return any(is_fraction(arg) for arg in expr.args[1:])
    if expr.is_Symbol:
        return expr.name.startswith(("zf", "zuf"))
    return False


def _natural(expr: Any) -> bool:
    return bool(expr.is_Integer) and int(expr) >= 0


class Symbols:
    """Declares symbols in a GraphBuilder as they are met, and writes expressions over them."""

    def __init__(
        self,
        builder: _native.GraphBuilder | None = None,
        shape_env: Any = None,
        ranges: Any = None,
        data_decide: bool = False,
    ) -> None:
        self._builders = [] if builder is None else [builder]
        self._declared: list[tuple[Any, ...]] = []
        # All unbacked symbols are found by the program's own calls (nonzero), not in its arguments.
        self._data_decide = data_decide
        self._env = shape_env
        self._ranges = ranges if ranges is not None else {}
        self._names: dict[sympy.Symbol, str] = {}
        # Symbols whose values are read from tensors, and those that are sizes which a node finds.
        self.reads: set[sympy.Symbol] = set()
        self.decided: set[sympy.Symbol] = set()
        self._counts: dict[str, int] = {}
        self._texts: dict[Any, str] = {}

    @property
    def names(self) -> dict[sympy.Symbol, str]:
        """The text's name of every symbol met so far."""
        return self._names

    def nested(self, builder: _native.GraphBuilder) -> "Symbols":
        """The same symbols for a program inside this one; new ones are declared in both."""
        inner = copy.copy(self)
        inner._builders = [*self._builders, builder]
        for row in self._declared:
            builder.symbol(*row)
        return inner

    def size(self, value: Any) -> SizeText:
        """An int stays one; a SymInt, SymBool, SymFloat or sympy expression becomes its text."""
        if type(value) is int:
            return value
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, float):
            return f"float({value!r})"
        return self.expression(expr_of(value))

    def sizes(self, values: Any) -> list[SizeText]:
        return [v if type(v) is int else self.size(v) for v in values]

    def expression(self, expr: Any) -> SizeText:
        if self._env is not None and expr.free_symbols:
            expr = self._env.replace(expr)
        if expr.is_Integer:
            return int(expr)
        text = self._texts.get(expr)
        if text is None:
            text = self._texts[expr] = self._text(expr)
        return text

    def symbol(self, symbol: sympy.Symbol) -> str:
        name = self._names.get(symbol)
        if name is not None:
            return name
        name = self._fresh(symbol)
        prefix = name.rstrip("0123456789")
        low, high = self._range(symbol, prefix)
        decided = symbol in self.decided or (self._data_decide and prefix == "u")
        row = (name, low, high, self._hint(symbol), decided)
        self._declared.append(row)
        for builder in self._builders:
            builder.symbol(*row)
        return name

    def read_scalar(self, symbol: sympy.Symbol, tensor: Any, source: Any) -> None:
        """Declares a symbol whose value is the only element of a tensor, read when the model runs."""
        name = self._fresh(symbol)
        self.reads.add(symbol)
        floating = symbol_is_type(symbol, SymT.UNBACKED_FLOAT)
        low, high = (-(2**63), None) if floating else self._range(symbol, "u")
        row = (name, low, high, None, True)
        for builder in self._builders[:-1]:
            builder.symbol(*row)
        self._builders[-1].read_scalar(name, tensor, low, high, source)
        self._declared.append(row)

    def forget(self, symbol: sympy.Symbol) -> None:
        """In this program a symbol has another value than in the programs around and before it."""
        self._names = {known: name for known, name in self._names.items() if known != symbol}
        self._texts = {}

    def _fresh(self, symbol: sympy.Symbol) -> str:
        prefix = symbol.name.rstrip("0123456789") or "s"
        prefix = "".join(c for c in prefix if c.isalnum() or c == "_") or "s"
        number = self._counts.get(prefix, 0)
        self._counts[prefix] = number + 1
        name = self._names[symbol] = f"{prefix}{number}"
        return name

    def _range(self, symbol: sympy.Symbol, prefix: str) -> tuple[int, int | None]:
        found = self._ranges.get(symbol)
        if found is None and self._env is not None:
            found = self._env.var_to_range.get(symbol)
        signed = prefix in ("u", "zf", "zuf")
        if found is None:
            return (-(2**63) if signed else 0), None
        low = _bound(found.lower)
        if low is None:
            low = -(2**63)
        return low, _bound(found.upper)

    def _hint(self, symbol: sympy.Symbol) -> int | None:
        if self._env is None:
            return None
        known = getattr(self._env, "backed_var_to_val", None)
        if known is None:
            known = getattr(self._env, "var_to_val", {})
        return _bound(known.get(symbol)) if symbol in known else None

    # Expressions -----------------------------------------------------------------------------------------------------

    def _number(self, expr: Any) -> str:
        """An argument of a function over doubles."""
        text = self._text(expr)
        return text if is_fraction(expr) else f"to_float({text})"

    def _fold(self, name: str, args: list[str]) -> str:
        text = args[0]
        for arg in args[1:]:
            text = f"{name}({text}, {arg})"
        return text

    def _text(self, expr: Any) -> str:
        if expr.is_Integer:
            number = int(expr)
            return str(number) if number >= 0 else f"({number})"
        if expr.is_Symbol:
            # A float that is read from a tensor is known by its bits.
            name = self.symbol(expr)
            return f"from_bits({name})" if symbol_is_type(expr, SymT.UNBACKED_FLOAT) else name
        head = type(expr).__name__
        if expr is sympy.true or head == "BooleanTrue":
            return "1"
        if expr is sympy.false or head == "BooleanFalse":
            return "0"
        if expr.is_Float or expr.is_Rational:
            return f"float({float(expr)!r})"
        writer: Callable[..., str] | None = getattr(self, "_write_" + head, None)
        if writer is not None:
            return writer(expr)
        args = expr.args
        if head in _CALLS and len(args) == _CALLS[head][1]:
            return f"{_CALLS[head][0]}({', '.join(self._text(a) for a in args)})"
        if head in _COMPARISONS and len(args) == 2:
            return f"({self._text(args[0])} {_COMPARISONS[head]} {self._text(args[1])})"
        if head.startswith("OpaqueUnaryFn_") and len(args) == 1:
            function = head.removeprefix("OpaqueUnaryFn_")
            if function in _FLOAT_FUNCTIONS:
                return f"{function}({self._number(args[0])})"
        if head.startswith("BitwiseFn_bitwise_") and len(args) == 2:
            return f"bit_{head.removeprefix('BitwiseFn_bitwise_')}({self._text(args[0])}, {self._text(args[1])})"
        raise UnsupportedError("unsupported", f"size function `{head}` in `{expr}`")

    def _write_Add(self, expr: Any) -> str:
        args = expr.args
        if is_fraction(expr):
            return self._fold("float_add", [self._number(a) for a in args])
        return "(" + " + ".join(self._text(a) for a in args) + ")"

    def _write_Mul(self, expr: Any) -> str:
        args = expr.args
        if is_fraction(expr):
            return self._fold("float_mul", [self._number(a) for a in args])
        return "(" + "*".join(self._text(a) for a in args) + ")"

    def _write_Max(self, expr: Any) -> str:
        return self._fold("max", [self._text(a) for a in expr.args])

    def _write_Min(self, expr: Any) -> str:
        return self._fold("min", [self._text(a) for a in expr.args])

    def _write_And(self, expr: Any) -> str:
        return self._fold("and", [self._text(a) for a in expr.args])

    def _write_Or(self, expr: Any) -> str:
        return self._fold("or", [self._text(a) for a in expr.args])

    def _write_Pow(self, expr: Any) -> str:
        base, power = expr.args
        if not is_fraction(base) and _natural(power):
            return "(" + "*".join([self._text(base)] * int(power)) + ")" if int(power) else "1"
        return f"float_pow({self._number(base)}, {self._number(power)})"

    def _write_Piecewise(self, expr: Any) -> str:
        """Each case where its condition holds and none before it."""
        *cases, (text, _) = [(self._text(value), condition) for value, condition in expr.args]
        for value, condition in reversed(cases):
            text = f"choose({self._text(condition)}, {value}, {text})"
        return text

    def _write_FloorDiv(self, expr: Any) -> str:
        return f"({self._text(expr.args[0])} // {self._text(expr.args[1])})"

    _write_CleanDiv = _write_FloorDiv

    def _write_CeilDiv(self, expr: Any) -> str:
        above, below = (self._text(a) for a in expr.args)
        return f"(({above} + {below} - 1) // {below})"

    def _write_Mod(self, expr: Any) -> str:
        return f"({self._text(expr.args[0])} % {self._text(expr.args[1])})"

    _write_PythonMod = _write_Mod

    def _write_ModularIndexing(self, expr: Any) -> str:
        base, below, modulus = (self._text(a) for a in expr.args)
        return f"(({base} // {below}) % {modulus})"

    def _write_Identity(self, expr: Any) -> str:
        return self._text(expr.args[0])

    def _write_FloatPow(self, expr: Any) -> str:
        return f"float_pow({self._number(expr.args[0])}, {self._number(expr.args[1])})"

    def _write_FloatTrueDiv(self, expr: Any) -> str:
        return f"float_div({self._number(expr.args[0])}, {self._number(expr.args[1])})"

    def _write_ToFloat(self, expr: Any) -> str:
        return self._number(expr.args[0])

    def _write_TruncToFloat(self, expr: Any) -> str:
        return f"trunc_to_float({self._number(expr.args[0])})"

    def _write_RoundDecimal(self, expr: Any) -> str:
        number, digits = expr.args
        if not digits.is_Integer:
            raise UnsupportedError("unsupported", f"size function `RoundDecimal` with a dynamic number of digits in `{expr}`")
        scale = f"float({10.0 ** int(digits)!r})"
        rounded = f"round_to_int(float_mul({self._number(number)}, {scale}))"
        return f"float_div(to_float({rounded}), {scale})"

    def _write_IsNonOverlappingAndDenseIndicator(self, expr: Any) -> str:
        rank = len(expr.args) // 2
        expected: Any = sympy.Integer(1)
        for size, stride in reversed(list(zip(expr.args[:rank], expr.args[rank:]))):
            if stride != expected:
                raise UnsupportedError("unsupported", f"size function `IsNonOverlappingAndDenseIndicator` in `{expr}`")
            expected = expected * size
        return "1"


_CALLS = {
    "IntTrueDiv": ("int_true_div", 2),
    "PowByNatural": ("pow", 2),
    "Not": ("not", 1),
    "Where": ("choose", 3),
    "LShift": ("shift_left", 2),
    "RShift": ("shift_right", 2),
    "CeilToInt": ("ceil_to_int", 1),
    "FloorToInt": ("floor_to_int", 1),
    "TruncToInt": ("to_int", 1),
    "RoundToInt": ("round_to_int", 1),
}
_COMPARISONS = {
    "Equality": "==", "Unequality": "!=", "GreaterThan": ">=", "LessThan": "<=", "StrictGreaterThan": ">",
    "StrictLessThan": "<",
}  # fmt: skip
_FLOAT_FUNCTIONS = {
    "sqrt", "exp", "log", "log2", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh",
}  # fmt: skip


def is_symbolic(value: Any) -> bool:
    """Whether a value is a SymInt, SymFloat or SymBool."""
    return isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool))


def expr_of(value: Any) -> Any:
    """The sympy expression of a symbolic scalar."""
    if is_symbolic(value):
        return value.node.expr
    return sympy.sympify(value)


def shape_env_of(values: Any) -> Any:
    """The ShapeEnv of the first symbolic size among FakeTensors and symbolic scalars; None where all is static."""
    for value in values:
        if is_symbolic(value):
            return value.node.shape_env
        if isinstance(value, torch.Tensor):
            mode = getattr(value, "fake_mode", None)
            if mode is not None and mode.shape_env is not None:
                return mode.shape_env
    return None
