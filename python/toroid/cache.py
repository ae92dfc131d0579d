"""Compiled graphs of this process by what they were made from: equal graphs are compiled once.

The next process finds kernels and whole packages in the compiler's own cache folder (`cache_folder`).
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from typing import Any, Callable

import torch

from . import _native
from ._program import boxed_call
from .backend_options import BackendOptions


class Compiled:
    """A loaded model. `run` takes the list of inputs and gives the list of results; `flat` takes them one by one."""

    def __init__(self, package: Any, random: bool) -> None:
        self.run = boxed_call(package, trusted=True, seed=_seed if random else None)
        self.flat = self.run.unboxed()
        self.summary: str = package.summary
        for function in (self.run, self.flat):
            # As long as the function is in use, an equal graph finds it.
            function.compiled = self
            # Dynamo asks for it in every call.
            function.__name__ = "toroid_graph"


def _seed() -> int:
    """A number from PyTorch's generator: torch.manual_seed decides what a graph draws."""
    return int(torch.empty((), dtype=torch.int64).random_())


_lock = threading.Lock()
_models: "weakref.WeakValueDictionary[tuple[Any, ...], Compiled]" = weakref.WeakValueDictionary()
_dumps = 0


def clear() -> None:
    """Forgets what this process has compiled; graphs in use stay."""
    with _lock:
        _models.clear()


def compiled_model(
    builder: _native.GraphBuilder,
    name: str,
    options: BackendOptions,
    contents: tuple[Any, ...],
    random: bool,
    program: Callable[[], str],
) -> Compiled:
    """`contents`: of the tensors that the graph holds, which its text does not show. `random`: it draws random numbers.
    `program`: the text of what PyTorch gave, for a dump."""
    key = None
    if not options.dump:
        # Where in the user's program an op stands does not matter.
        key = (re.sub(r"  @ .*", "", builder.text()), contents, *options.code_key())
        with _lock:
            found = _models.get(key)
        if found is not None:
            return found
    settings = options.compile_options()
    if options.dump:
        settings["dump_folder"] = _dump_folder(options.dump, name)
        with open(os.path.join(settings["dump_folder"], "00-fx.py"), "w", encoding="utf-8") as out:
            out.write(program())
        with open(os.path.join(settings["dump_folder"], "01-import.graph"), "w", encoding="utf-8") as out:
            out.write(builder.text())
    package = _native.compile(builder, settings)
    made = Compiled(package, random)
    if key is not None:
        with _lock:
            made = _models.setdefault(key, made)
    return made


def _dump_folder(root: str, name: str) -> str:
    """A folder of its own for each graph: 0001-forward, 0002-backward, …"""
    global _dumps
    while True:
        with _lock:
            _dumps += 1
            folder = os.path.join(root, f"{_dumps:04d}-{name}")
        try:
            os.makedirs(folder)
            return folder
        except FileExistsError:
            continue
