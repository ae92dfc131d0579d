"""Toroid compiles PyTorch programs to native code."""
from ._errors import CompileError, Error, InputError, MissingOp, UnsupportedError
from ._native import version as _version

__version__: str = _version()
__all__ = ["CompileError", "Error", "InputError", "MissingOp", "UnsupportedError", "__version__"]
