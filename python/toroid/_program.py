"""toroid.compile and toroid.load: a program as a function of torch tensors or NumPy arrays."""
from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _native, _signature
from ._errors import Error, InputError
from ._options import Options, from_environment

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from typing_extensions import Unpack


class Report(dict):
    """What a program is made of: `signature`, `kernels` with their FLOPs and bytes, memory, target, compiler."""

    def __str__(self) -> str:
        lines = [f"{self['model']}: {len(self['kernels'])} kernels for {self['target']}, by {self['compiler']}"]
        for key in ("intermediate_bytes", "bytes_moved", "peak_bytes", "lower_bound_bytes"):
            lines.append(f"  {key.replace('_', ' ')}: {self[key]:,}")
        for kernel in self["kernels"]:
            lines.append(f"  {kernel['name']}: {kernel['note'] or kernel['kind']}"
                         + (f"  @ {kernel['source']}" if kernel["source"] else ""))
        return "\n".join(lines)


class Program:
    """A compiled program, called as the original was: same nesting of arguments and results, keywords too.

    Torch tensors are borrowed, results are ordinary torch tensors; NumPy arrays give NumPy arrays. Results that are
    views of an argument share its memory, and arguments that the program writes to are written in place, as in
    PyTorch. There is no backward: arguments that require grad are refused while gradients are recorded. Many threads
    may call one program at once.
    """

    def __init__(self, model: _native.Model, package: _native.Package | None = None, path: str | None = None,
                 specs: tuple[Any, Any] | None = None):
        self._model = model
        self._package = package
        self._path = path
        self._manifest = json.loads(model.manifest)
        self._signature = self._manifest["signature"]
        self._boxed: _native.Call | None = None
        self._saves = True
        in_spec, out_spec = self._signature.get("in_spec", ""), self._signature.get("out_spec", "")
        trees = _signature.call_trees(in_spec, out_spec) if in_spec and out_spec else None
        if trees:
            self._call = self._make_call(trees)
        elif specs:
            self._call = _PytreeCall(self.boxed, *specs)
            self._saves = bool(in_spec and out_spec)
        elif in_spec and out_spec:
            self._call = _PytreeCall(self.boxed, *_load_specs(in_spec, out_spec))
        else:
            self._call = self._flat_call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    @property
    def boxed(self) -> _native.Call:
        """The program as a function of one list of leaves that gives a list of leaves."""
        if self._boxed is None:
            self._boxed = self._make_call(None)
        return self._boxed

    def save(self, path: str | os.PathLike) -> None:
        """Writes the package, whole or not at all; toroid.load, the `toroid` command and PyTorch's
        aoti_load_package load it."""
        if not self._saves:
            raise Error("unsupported", "the arguments or results are nested in a type that cannot be saved",
                        ["hint: torch.utils._pytree.register_pytree_node with a serialized_type_name"])
        if self._package is not None:
            self._package.save(os.fspath(path))
        else:
            _copy_file(str(self._path), os.fspath(path))

    def report(self) -> Report:
        """What the program is made of; print it, or read it as a dict."""
        return Report(json.loads(self._model.report), model=self._model.name, target=self._model.target,
                      compiler=self._manifest.get("compiler", ""), signature=self._signature)

    @property
    def threads(self) -> int:
        """The most threads that a call uses; set it to 0 for all of the pool."""
        return self._model.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._model.threads = threads

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Replaces weights by the names of the state dict; no call may be under way."""
        self._model.set_weights(weights)

    def __repr__(self) -> str:
        def row(inputs: list[dict]) -> str:
            return ", ".join(f"{r['name']}: {r['dtype']}[{r['sizes'].strip('[]')}]" if "dtype" in r else r["name"]
                             for r in inputs)
        return f"<toroid.Program {self._model.name}({row(self._signature['inputs'])})>"

    def _make_call(self, trees: Any, trusted: bool = False, seed: Callable[[], int] | None = None) -> _native.Call:
        signature = self._signature
        return _native.make_call(self._model, _signature.parameters(signature), _signature.results(signature),
                                 _signature.symbols(signature), trees, trusted, seed)

    def _flat_call(self, *args: Any) -> tuple:
        return tuple(self.boxed(list(args)))


class _PytreeCall:
    """Calls a boxed function with arguments nested in types that torch.utils._pytree knows."""

    def __init__(self, boxed: Any, in_spec: Any, out_spec: Any):
        import torch.utils._pytree as pytree
        self._pytree = pytree
        self._boxed = boxed
        self._in_spec = in_spec
        self._out_spec = out_spec
        self._keys = list(in_spec.child(1).context) if hasattr(in_spec, "child") else \
            list(in_spec.children_specs[1].context)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if set(kwargs) != set(self._keys):
            raise InputError("bad_input", f"the program takes the keyword arguments {self._keys}, got {list(kwargs)}")
        leaves, spec = self._pytree.tree_flatten((args, {key: kwargs[key] for key in self._keys}))
        if spec != self._in_spec:
            raise InputError("bad_input", "the nesting of the arguments differs from the export's",
                             [f"expected {self._in_spec}", f"got {spec}"])
        return self._pytree.tree_unflatten(self._boxed(leaves), self._out_spec)


def boxed_call(package: _native.Package, trusted: bool = False,
               seed: Callable[[], int] | None = None) -> _native.Call:
    """A package as a function of one list that gives a list, for torch.compile. trusted: Dynamo's guards have seen to
    requires_grad, conjugate and negative views. seed: called before each run, gives the seed of its random numbers."""
    return Program(_native.load(package))._make_call(None, trusted, seed)


def compile(program: ExportedProgram | str | os.PathLike, **options: Unpack[Options]) -> Program:
    """Compiles an exported program, or the archive that torch.export.save wrote at a path.

    The options are those of toroid.Options; what they leave open, the environment may say (docs/environment.md).
    Raises UnsupportedError, which lists every op that is missing; CompileError with the compiler's message; Error.
    """
    given = {**from_environment(), **options}
    if isinstance(program, (str, os.PathLike)):
        package = _native.compile(os.fspath(program), given)
        return Program(_native.load(package), package)
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(program, torch.export.ExportedProgram):
        raise TypeError("toroid.compile takes a torch.export.ExportedProgram or the path of an archive, "
                        f"not a `{type(program).__name__}`")
    from .fx_export import translate_exported
    graph = translate_exported(program)
    specs = (graph.in_spec, graph.out_spec)
    _keep_specs(graph.builder, *specs)
    package = _native.compile(graph.builder, given)
    return Program(_native.load(package), package, specs=specs)


def _keep_specs(builder: _native.GraphBuilder, in_spec: Any, out_spec: Any) -> None:
    """Puts the nesting into the package. A type that its owner has not registered for saving (as torch.export.save
    demands, too) cannot be: such a program is called here, but not saved."""
    import torch.utils._pytree as pytree
    try:
        builder.call_spec(pytree.treespec_dumps(in_spec), pytree.treespec_dumps(out_spec))
    except NotImplementedError:
        builder.call_spec("", "")


def load_plugin(path: str | os.PathLike) -> None:
    """Loads a plug-in with ops of your own (toroid/plugin.h), for compile() and for the packages that call them."""
    _native.load_plugin(os.fspath(path))
    _native.compile_plugin(os.fspath(path))


def load(path: str | os.PathLike, *, model: str = "", threads: int = 0, verify: bool = False) -> Program:
    """Loads a compiled package; its weights are mapped, not read. verify: hash them against the manifest first."""
    return Program(_native.load(os.fspath(path), model, threads, verify), path=os.fspath(path))


def _load_specs(in_spec: str, out_spec: str) -> tuple[Any, Any]:
    try:
        import torch.utils._pytree as pytree
    except ImportError:
        raise Error("unsupported", "the arguments are nested in types that need PyTorch", [in_spec]) from None
    return pytree.treespec_loads(in_spec), pytree.treespec_loads(out_spec)


def _copy_file(source: str, target: str) -> None:
    """Whole or not at all. A link is followed; a device or pipe would be replaced by the file."""
    if os.path.exists(target) and not os.path.isfile(target):
        raise Error("io", f"cannot write `{target}`: it is not a regular file")
    target = os.path.realpath(target)
    folder = os.path.dirname(target)
    with open(source, "rb") as origin, tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
        try:
            while block := origin.read(1 << 24):
                copy.write(block)
            copy.flush()
            os.chmod(copy.name, 0o644)
            os.replace(copy.name, target)
        except BaseException:
            os.unlink(copy.name)
            raise
