"""Toroid compiles PyTorch programs to native code.

    program = toroid.compile(torch.export.export(model, (x,)))
    y = program(x)
    program.save("model.toroid.pt2")
    program = toroid.load("model.toroid.pt2")
"""
from ._errors import CompileError, Error, InputError, MissingOp, UnsupportedError
from ._native import version as _version
from ._options import Options
from ._program import Program, Report, compile, load, load_plugin

def __getattr__(name: str) -> object:
    # What needs torch is imported at its first use.
    if name == "explain":
        from .explain import explain
        return explain
    raise AttributeError(f"module `toroid` has no attribute `{name}`")


__version__: str = _version()
__all__ = ["CompileError", "Error", "InputError", "MissingOp", "Options", "Program", "Report", "UnsupportedError",
           "__version__", "compile", "explain", "load", "load_plugin"]
