"""torch.compile(backend="toroid"): what is compiled once, what is kept for the next process, what is left behind."""

from __future__ import annotations

import copy
import ctypes
import gc
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest
import torch
from backend_testing import NATIVE
from torch._dynamo.backends.common import aot_autograd

import toroid.backend
import toroid.cache
from toroid import _native


@pytest.fixture
def compilations(monkeypatch):
    """The summaries of what is compiled while a test runs."""
    made = []
    real = _native.compile

    def compile(*args):
        package = real(*args)
        made.append(package.summary)
        return package

    monkeypatch.setattr(_native, "compile", compile)
    toroid.cache.clear()
    torch._dynamo.reset()
    return made


def test_equal_graphs_are_compiled_once(compilations):
    layers = [torch.nn.Linear(8, 8) for _ in range(3)]
    x = torch.randn(2, 8)
    compiled = [torch.compile(layer, backend="toroid", options=NATIVE) for layer in layers]
    with torch.no_grad():
        for layer, function in zip(layers, compiled):
            torch.testing.assert_close(function(x), layer(x))
    assert len(compilations) == 1


def test_another_size_or_option_is_another_graph(compilations):
    def f(x):
        return x.sin() + 1

    with torch.no_grad():
        torch.compile(f, backend="toroid", options=NATIVE, dynamic=False)(torch.randn(3))
        torch._dynamo.reset()
        torch.compile(f, backend="toroid", options=NATIVE, dynamic=False)(torch.randn(4))
        torch._dynamo.reset()
        torch.compile(f, backend="toroid", options={**NATIVE, "target": "x86-64-v3"}, dynamic=False)(torch.randn(4))
    assert len(compilations) == 3


def test_released_graphs_leave_nothing():
    torch._dynamo.reset()
    gc.collect()
    before = len(toroid.cache._models)
    for size in range(3, 9):
        torch._dynamo.reset()
        with torch.no_grad():
            torch.compile(lambda x: x * 2, backend="toroid", options=NATIVE, dynamic=False)(torch.randn(size))
    torch._dynamo.reset()
    gc.collect()
    assert len(toroid.cache._models) <= before


def _resident() -> int:
    """Bytes of memory in use, when what was freed has gone back to the system."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _nothing(gm, example_inputs):
    def run(args):
        return gm.forward(*args)

    run._boxed_call = True
    return run


def test_cycles_leave_no_growth():
    """Compile, call, reset: TOROID_TEST_CYCLES times, or sixty. Dynamo grows by itself, so a backend that compiles
    nothing goes first."""
    cycles = int(os.environ.get("TOROID_TEST_CYCLES", "60"))

    def cycle(**backend):
        torch.compiler.reset()
        x = torch.randn(64, 64, requires_grad=True)
        torch.compile(lambda x: torch.softmax(x @ x, -1).sum(), **backend)(x).backward()
        with torch.no_grad():
            torch.compile(lambda x: x * 2 + 1, **backend)(torch.randn(1 << 16))

    grown = []
    for backend in ({"backend": aot_autograd(fw_compiler=_nothing)}, {"backend": "toroid", "options": NATIVE}):
        for _ in range(cycles // 4):
            cycle(**backend)
        before = _resident()
        for _ in range(cycles):
            cycle(**backend)
        grown.append(_resident() - before)
    # A graph's code, arena and text of each cycle would be above 200 KB.
    print(f"{cycles} cycles: Dynamo alone {grown[0] / 1e6:.1f} MB more, with Toroid {grown[1] / 1e6:.1f} MB")
    assert grown[1] < 1.5 * grown[0] + (2 << 20) + 10_000 * cycles


def test_frozen_graphs_are_found_by_their_contents(compilations):
    torch._dynamo.reset()
    x, linear = torch.randn(2, 8), torch.nn.Linear(8, 3)
    same, other = copy.deepcopy(linear), copy.deepcopy(linear)
    other.weight.data[1].mul_(2)
    kept = []
    with torch._dynamo.config.patch(prepare_freezing=True), torch.no_grad():
        for module, compiled in ((linear, 1), (same, 1), (other, 2)):
            kept.append(torch.compile(module, backend="toroid", options=NATIVE))
            torch.testing.assert_close(kept[-1](x), module(x))
            assert len(compilations) == compiled
        # Each module keeps its own.
        for module, f in zip((linear, same, other), kept):
            torch.testing.assert_close(f(x), module(x))
        for module in (linear, other):
            f = torch.compile(lambda x: module(x) * 2, backend="toroid", options=NATIVE)
            torch.testing.assert_close(f(x), module(x) * 2)


_PROCESS = """
import sys, torch, toroid._native as native
sys.path.insert(0, {tests!r})
import backend_testing
real, made = native.compile, []
def compile(*args):
    made.append(real(*args))
    return made[-1]
native.compile = compile
with torch.no_grad():
    torch.compile(lambda x: torch.softmax(x @ x, -1), backend="toroid")(torch.ones(8, 8))
print(made[0].summary)
"""


def test_the_next_process_compiles_nothing():
    with tempfile.TemporaryDirectory() as folder:
        script = _PROCESS.format(tests=str(pathlib.Path(__file__).parent))
        told = [
            subprocess.run(
                [sys.executable, "-c", script], env={**os.environ, "TOROID_CACHE": folder}, capture_output=True, text=True
            )
            for _ in range(2)
        ]
    assert told[0].returncode == 0, told[0].stderr
    assert " 0 reused" in told[0].stdout and " 0 files compiled" in told[1].stdout


def test_dump_shows_every_stage():
    def f(x):
        return x.sin() + 1

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        torch._dynamo.reset()
        torch.compile(f, backend="toroid", options={**NATIVE, "dump": folder})(torch.randn(3))
        (graph,) = pathlib.Path(folder).iterdir()
        files = {file.name for file in graph.rglob("*")}
        assert "00-fx.py" in files and any(name.endswith(".cpp") for name in files)
        assert any("backend_cache_test.py" in file.read_text() for file in graph.rglob("*.graph"))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
