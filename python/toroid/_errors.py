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
    """One row per "no lowering for `op`", with the " at place" behind or below it."""
    rows: list[MissingOp] = []
    for line in [text, *details]:
        op = re.search(r"`([\w:]+[.:]\w[\w.]*)`", line)
        place = re.match(r"\s*at (.*)", line)
        if place and rows and not rows[-1].place:
            rows[-1] = MissingOp(rows[-1].op, place.group(1))
        elif op:
            at = re.search(r" at (.*)$", line[op.end():])
            rows.append(MissingOp(op.group(1), at.group(1) if at else ""))
    return rows


_CLASSES = {
    "unsupported": UnsupportedError,
    "unsupported_op": UnsupportedError,
    "bad_input": InputError,
    "compiler_failed": CompileError,
}


def make(kind: str, text: str, details: list[str]) -> Error:
    """The exception for a failure that the compiler or the runtime reports."""
    return _CLASSES.get(kind, Error)(kind, text, details)
