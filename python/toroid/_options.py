"""What a compilation can be told, and what the environment says where the caller does not."""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypedDict

from ._errors import Error


class Options(TypedDict, total=False):
    """The keyword arguments of toroid.compile; all have defaults."""

    target: str
    """BASE[+feature…], such as x86-64-v3 or x86-64-v4+vnni+bf16; `native` is this machine."""
    threads: int
    """The program's default number of threads; 0 is all that the machine running it allows."""
    jobs: int
    """How many compiler processes run at once; 0: one per core."""
    model: str
    """Which model, where an archive holds several."""
    compiler: str
    """The C++ compiler; without it the first of g++ and clang++ on the search path."""
    search_path: str
    """Where compilers are looked for, folders with colons between."""
    launcher: str
    """A program put in front of the compiler: ccache, distcc, icecc."""
    cache_folder: str
    """Where compiled pieces are kept for the next time; empty: nothing is kept."""
    cache_bytes: int
    """The most that the cache folder holds."""
    temporary_folder: str
    """Where temporary files and reproducers go."""
    deadline_seconds: float
    """After which the compilation gives up; 0: never."""
    dump_folder: str
    """Every stage's text and the generated sources are written here."""
    explain: list[str]
    """Topics of which `explanation` is told why: fuse, cache, guard."""
    explanation: Callable[[str, str], Any]
    """Called with a topic and a line of text."""
    progress: Callable[[str, int, int], Any]
    """Called with a step's name and how much of it is done, now and then."""
    time: Callable[[str, str, float], Any]
    """Called with a step, a detail (empty for the whole step) and its seconds."""
    skip: list[str]
    """Optional steps to leave out, for finding faults."""


def from_environment() -> Options:
    """The options that docs/environment.md names."""
    options: Options = {"cache_folder": _cache_folder()}
    megabytes = os.environ.get("TOROID_CACHE_MB", "")
    if megabytes:
        if not (megabytes.isascii() and megabytes.isdigit() and 0 < int(megabytes) < 1 << 43):
            raise Error("bad_option", f"TOROID_CACHE_MB is `{megabytes}`, expected a number of MiB above 0")
        options["cache_bytes"] = int(megabytes) << 20
    for variable, option in (("TOROID_CXX", "compiler"), ("TOROID_LAUNCHER", "launcher"), ("PATH", "search_path"),
                             ("TMPDIR", "temporary_folder")):
        if os.environ.get(variable):
            options[option] = os.environ[variable]  # type: ignore[literal-required]
    return options


def _cache_folder() -> str:
    folder = os.environ.get("TOROID_CACHE", "")
    if folder:
        return "" if folder == "off" else folder
    if os.environ.get("XDG_CACHE_HOME"):
        return os.path.join(os.environ["XDG_CACHE_HOME"], "toroid")
    if os.environ.get("HOME"):
        return os.path.join(os.environ["HOME"], ".cache", "toroid")
    return f"/tmp/toroid-cache-{os.getuid()}"
