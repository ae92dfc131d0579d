"""What `torch.compile(backend="toroid", mode=…, options={…})` and the environment say, as one checked value."""

from __future__ import annotations

import dataclasses
import difflib
import os
from typing import Any, Mapping

from ._options import from_environment

_MODES = ("default", "reduce-overhead")


@dataclasses.dataclass(frozen=True)
class BackendOptions:
    """The backend's options; the names are those of `options={…}`."""

    # An op that Toroid lacks is an error, not a segment that PyTorch runs.
    fullgraph_native: bool = False
    # `BASE[+feature…]`, such as x86-64-v3; native: this machine.
    target: str = "native"
    # The most threads a call may use; 0: all that the process may.
    threads: int = 0
    # How many compiler processes run at once; 0: one per core.
    jobs: int = 0
    # The C++ compiler, and a program in front of it such as ccache; empty: the first that is found, none.
    compiler: str = ""
    launcher: str = ""
    # Where compiled graphs and kernels are kept; empty: nowhere.
    cache_folder: str = ""
    cache_bytes: int = 2 << 30
    # Every stage of every graph is written to a folder of its own below this one; empty: nothing is.
    dump: str = ""
    # Seconds after which a compilation gives up; 0: never.
    deadline_seconds: float = 0.0

    def compile_options(self) -> dict[str, Any]:
        """What the compiler takes of these; empty ones are left to the environment."""
        given = {
            "target": self.target,
            "threads": self.threads,
            "jobs": self.jobs,
            "compiler": self.compiler,
            "launcher": self.launcher,
            "deadline_seconds": self.deadline_seconds,
        }
        cache = {"cache_folder": self.cache_folder, "cache_bytes": self.cache_bytes}
        return {**from_environment(), **{name: value for name, value in given.items() if value}, **cache}

    def code_key(self) -> tuple[Any, ...]:
        """The options that change what is compiled."""
        return (self.target, self.threads, self.compiler, self.launcher)


def _flag(name: str) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if value in ("", "0", "false", "no", "off"):
        return False
    if value in ("1", "true", "yes", "on"):
        return True
    raise ValueError(f"the environment variable {name} is `{value}`; it takes 0 or 1")


def environment_options() -> BackendOptions:
    """The options where a call says nothing."""
    known = from_environment()
    return BackendOptions(
        fullgraph_native=_flag("TOROID_FULLGRAPH_NATIVE"),
        dump=os.environ.get("TOROID_DUMP", ""),
        **{name: known[name] for name in ("compiler", "launcher", "cache_folder", "cache_bytes") if name in known},
    )


def parse_options(mode: str | None, options: Mapping[str, Any] | None) -> BackendOptions:
    """Raises ValueError for a mode or option that does not exist, TypeError for a value of the wrong type."""
    if mode is not None and mode not in _MODES:
        raise ValueError(f"toroid has no mode `{mode}`; its modes are {', '.join(_MODES)}, which are the same to it")
    parsed = environment_options()
    fields = {field.name: field for field in dataclasses.fields(BackendOptions)}
    changes: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, 1)
            hint = f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(fields)}"
            raise ValueError(f"toroid has no option `{name}`{hint}")
        wanted = type(getattr(parsed, name))
        if wanted is float and type(value) is int:
            value = float(value)
        if name in ("dump", "cache_folder") and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if type(value) is not wanted:
            raise TypeError(f"toroid's option `{name}` takes {wanted.__name__}, not {type(value).__name__}")
        changes[name] = value
    return dataclasses.replace(parsed, **changes)
