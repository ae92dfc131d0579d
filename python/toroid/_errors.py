"""Toroid's exceptions; the extension and the package raise nothing else for failures of its own."""
from __future__ import annotations

import re
from typing import NamedTuple


class Error(RuntimeError):
    """A failure: `kind` is a word (bad_file, io, …), `text` one line, `details` the lines below it."""

    def __init__(self, kind: str, text: str, details: list[str] | tuple[str, ...] = ()):
        self.kind = kind
        self.text = text
        self.details = list(details)
        super().__init__(kind, text, self.details)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.kind}: {self.text}", *self.details])


class MissingOp(NamedTuple):
    """An op that Toroid has no code for, and where the user's program calls it."""

    op: str
    place: str


class UnsupportedError(Error):
    """The program holds something that Toroid cannot compile. `ops` lists every missing op with its place."""

    def __init__(self, kind: str, text: str, details: list[str] | tuple[str, ...] = ()):
        super().__init__(kind, text, details)
        self.ops = list(_missing_ops(self.text, self.details))


class InputError(Error, ValueError):
    """An argument of a call does not fit the model; the text says which, what was expected and what came."""


class CompileError(Error):
    """The C++ compiler failed: the details hold its message, and the command and files that show it again."""


def _missing_ops(text: str, details: list[str]) -> list[MissingOp]:
    """From lines such as "`aten.foo.default` at net.py:4, inputs f32[3]"; the text alone names an op without a place."""
    rows = [MissingOp(match.group(1), match.group(2) or "") for line in details
            if (match := re.match(r"\s*`([^`]+)`(?: at (.*))?", line))]
    return rows or [MissingOp(op, "") for op in re.findall(r"`([a-z_]\w*[.:][^`\s]+)`", text)]


_CLASSES = {
    "unsupported": UnsupportedError,
    "unsupported_op": UnsupportedError,
    "bad_input": InputError,
    "compiler_failed": CompileError,
}


def make(kind: str, text: str, details: list[str]) -> Error:
    """The exception for a failure that the compiler or the runtime reports."""
    return _CLASSES.get(kind, Error)(kind, text, details)
