"""One FX graph of ATen ops, as AOTAutograd gives it, to a function that takes its inputs as a list.

The graph is cut into segments (segments.py); native ones are compiled, the rest runs in PyTorch. What needs no kernel is
left out of them: outputs that are inputs or views of inputs, and sizes. The segments are joined by a small Python
function, or by none where one segment is the whole graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

import torch
from torch import fx
from torch.utils._sympy.printers import PythonPrinter

from . import _native, cache
from ._errors import UnsupportedError
from .backend_options import BackendOptions
from .fx_graph import CONTROL_FLOW, FxTranslator, correct_types, op_name, place_text, source_of
from .fx_symbols import Symbols, expr_of, is_symbolic, shape_env_of
from .segments import Segment, cut, is_random, is_read, torch_module


@dataclass
class Refusal:
    """An op that PyTorch runs, why, and where the user's program has it."""

    op: str
    reason: str
    place: str

    def __str__(self) -> str:
        return f"`{self.op}`{self.place}" + (f": {self.reason}" if self.reason else "")


@dataclass
class GraphReport:
    """What became of one graph, for toroid.explain."""

    name: str
    ops: int = 0
    native_segments: int = 0
    torch_segments: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    summaries: list[str] = field(default_factory=list)
    # What was compiled, kept for as long as the graph is: equal graphs find it there.
    compiled: list[Any] = field(default_factory=list)
    # Where one native segment is the whole graph: the function, which takes these placeholders one by one.
    flat: Callable[..., list[Any]] | None = None
    flat_inputs: list[fx.Node] = field(default_factory=list)
    seconds: float = 0.0


class _Refused(Exception):
    """Nodes that turned out not to be for Toroid."""

    def __init__(self, nodes: dict[fx.Node, str], error: UnsupportedError) -> None:
        super().__init__(str(error))
        self.nodes = nodes
        self.error = error


@dataclass
class _Output:
    """Where a result of the graph comes from: a node's value, a view of one, an expression over sizes, a constant."""

    kind: str
    node: fx.Node | None = None
    value: Any = None


def compile_graph(
    gm: fx.GraphModule, name: str, options: BackendOptions, constants: dict[fx.Node, torch.Tensor] | None = None
) -> tuple[Callable[[list[Any]], list[Any]], GraphReport]:
    """`constants`: placeholders whose values are known and stay as they are; the function still takes them."""
    return _GraphCompiler(gm, name, options, constants or {}).compile()


class _GraphCompiler:
    def __init__(
        self, gm: fx.GraphModule, name: str, options: BackendOptions, constants: dict[fx.Node, torch.Tensor]
    ) -> None:
        correct_types(gm.graph)
        self.gm = gm
        self.options = options
        self.constants = constants
        self.report = GraphReport(name)
        self.placeholders = [n for n in gm.graph.nodes if n.op == "placeholder"]
        self.env = shape_env_of(n.meta.get("val") for n in gm.graph.nodes)
        self.report.ops = sum(n.op == "call_function" for n in gm.graph.nodes)
        self.written = _written_placeholders(gm.graph)
        self.outputs = self._find_outputs()
        self.wanted = {o.node for o in self.outputs if o.node is not None}
        # Symbols that the joining function computes with.
        self.asked: set[Any] = set()
        for output in self.outputs:
            if output.kind == "scalar":
                self.asked |= self._symbols_of([output.value])
            elif output.kind == "view":
                self.asked |= self._symbols_of([*output.value.shape, *output.value.stride(), output.value.storage_offset()])
        # The calls that say what these are.
        self.wanted |= {n for n in gm.graph.nodes if self._found_by(n) & self.asked}

    def compile(self) -> tuple[Callable[[list[Any]], list[Any]], GraphReport]:
        refused: dict[fx.Node, str] = {}
        while True:
            segments = cut(self.gm.graph, refused, self.wanted)
            try:
                runs = [self._compile_segment(s, whole=len(segments) == 1) for s in segments]
                break
            except _Refused as stop:
                if self.options.fullgraph_native:
                    raise stop.error from None
                fresh = {node: reason for node, reason in stop.nodes.items() if node not in refused}
                if not fresh:
                    raise stop.error from None
                refused |= fresh
        for node, reason in refused.items():
            self.report.refusals.append(Refusal(op_name(node.target), reason, place_text(source_of(node))))
        self.report.native_segments = sum(s.native for s in segments)
        self.report.torch_segments = len(segments) - self.report.native_segments
        return _join(self, segments, runs), self.report

    # Outputs ---------------------------------------------------------------------------------------------------------

    def _find_outputs(self) -> list[_Output]:
        results = next(n for n in self.gm.graph.nodes if n.op == "output").args[0]
        if isinstance(results, fx.Node):
            results = (results,)
        roots = [_view_root(r) if isinstance(r, fx.Node) else None for r in results]
        distinct = {r for r in results if isinstance(r, fx.Node)}
        users: dict[fx.Node, int] = {}
        for result in distinct:
            root = _view_root(result)
            users[root] = users.get(root, 0) + 1
        outputs = []
        for result, root in zip(results, roots):
            if not isinstance(result, fx.Node):
                outputs.append(_Output("constant", value=result))
                continue
            value = result.meta.get("val")
            if not isinstance(value, torch.Tensor):
                scalar = is_symbolic(value) or isinstance(value, (bool, int, float)) or value is None
                if result.op == "placeholder" or not scalar:
                    outputs.append(_Output("node", result))
                else:
                    outputs.append(_Output("scalar", value=value))
            elif root is not None and root is not result and self._shares(root, users):
                outputs.append(_Output("view", root, value))
            else:
                outputs.append(_Output("node", result))
        return outputs

    def _shares(self, root: fx.Node, users: dict[fx.Node, int]) -> bool:
        """Whether views of a root are made from it rather than computed: an input's memory, or several results'."""
        if root in self.constants:
            return False
        if root.op == "placeholder":
            return root not in self.written
        return root.op == "call_function" and users[root] > 1

    def _symbols_of(self, sizes: list[Any]) -> set[Any]:
        return set().union(*(self.env.replace(expr_of(size)).free_symbols for size in sizes if is_symbolic(size)))

    # Segments --------------------------------------------------------------------------------------------------------

    def _compile_segment(self, segment: Segment, whole: bool) -> "_Run":
        if not segment.native:
            module = torch_module(self.gm, segment)
            return _Run(module.forward, list(segment.inputs), [])
        # Not the graph's own name: equal graphs have equal texts.
        builder = _native.GraphBuilder("graph")
        symbols = Symbols(builder, self.env)
        translator = FxTranslator(builder, symbols)
        found = self._found_symbols(segment)
        symbols.decided = found
        inputs: list[fx.Node] = []
        # The whole graph takes its arguments as they come.
        candidates = self.placeholders if whole else [n for n in segment.inputs if _is_tensor(n)]
        used = set(segment.inputs) | (self.wanted if whole else set())
        for node in candidates:
            if node in self.constants:
                translator.values[node] = translator.weight(node.name, self.constants[node], "constant")
            elif node in used or (whole and isinstance(node.meta.get("val"), torch.SymInt)):
                translator.add_input(node, node.name)
                inputs.append(node)
            elif not isinstance(node.meta.get("val"), torch.Tensor):
                translator.values[node] = node.meta.get("val")
        for node in segment.inputs:
            if node not in translator.values and not _is_tensor(node):
                translator.values[node] = node.meta.get("val")
        for node in segment.nodes:
            for source in node.all_input_nodes:
                if source.op == "get_attr":
                    translator.run([source])
                elif source not in translator.values and not _is_tensor(source) and not is_read(source):
                    value = source.meta.get("val")
                    if not isinstance(value, (tuple, list)):
                        translator.values[source] = value
            translator.run([node])
        if translator.refused:
            raise _Refused(translator.refused, translator.error())
        outputs: list[Any] = []
        for node in segment.outputs:
            value = translator.values.get(node)
            if isinstance(value, _native.Tensor):
                builder.output(value, node.name)
                outputs.append(node)
            elif is_read(node):
                builder.size_output(symbols.size(node.meta["val"]), node.name)
                outputs.append(node)
            else:
                raise _Refused({node: "its result is no tensor"}, UnsupportedError("unsupported", f"`{node}`"))
        for symbol in sorted(found - self._shown(outputs), key=str):
            if not whole or symbol in self.asked:
                builder.size_output(symbols.expression(symbol), "")
                outputs.append(symbol)
        extra = self._bind_symbols(builder, symbols, inputs, found)
        try:
            compiled = cache.compiled_model(
                builder, self.report.name, self.options, translator.contents(), any(is_random(n) for n in segment.nodes),
                lambda: self.gm.print_readable(print_output=False),
            )
        except UnsupportedError as error:
            raise _Refused(_blame(segment, error), error) from None
        self.report.summaries.append(compiled.summary)
        self.report.compiled.append(compiled)
        return _Run(compiled.run, [*inputs, *extra], outputs, direct=whole and inputs == self.placeholders and not extra)

    def _shown(self, nodes: list[fx.Node]) -> set[Any]:
        """The sympy symbols that are a size of one of these tensors, or one of these numbers."""
        shown: set[Any] = set()
        for node in nodes:
            value = node.meta.get("val")
            for size in value.shape if isinstance(value, torch.Tensor) else [value]:
                if is_symbolic(size):
                    expr = self.env.replace(size.node.expr)
                    if expr.is_Symbol:
                        shown.add(expr)
        return shown

    def _found_symbols(self, segment: Segment) -> set[Any]:
        """The sizes that values decide in a segment."""
        return set().union(*(self._found_by(node) for node in segment.nodes))

    def _found_by(self, node: fx.Node) -> set[Any]:
        if is_read(node):
            return set()
        return set().union(*(self.env.replace(s).free_symbols for s in node.meta.get("unbacked_bindings") or ()))

    def _bind_symbols(self, builder: Any, symbols: Symbols, inputs: list[fx.Node], found: set[Any]) -> list[Any]:
        """Sizes that no input of the segment shows become inputs of their own; gives their sympy symbols."""
        shown = self._shown(inputs) | found
        extra = []
        for symbol, name in symbols.names.items():
            if symbol not in shown and symbol not in symbols.reads:
                builder.size_input(name, _native.Size(name))
                extra.append(symbol)
        return extra


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _written_placeholders(graph: fx.Graph) -> set[fx.Node]:
    """Placeholders whose memory some node writes, as far as the schemas say."""
    written: set[fx.Node] = set()
    for node in graph.nodes:
        target = node.target
        if node.op != "call_function":
            continue
        if isinstance(target, torch._ops.OpOverload):
            if not target._schema.is_mutable:
                continue
            for schema_arg, arg in zip(target._schema.arguments, node.args):
                if schema_arg.alias_info is not None and schema_arg.alias_info.is_write and isinstance(arg, fx.Node):
                    written.add(_view_root(arg))
        elif isinstance(target, torch._ops.HigherOrderOperator) and target.name() not in CONTROL_FLOW:
            written.update(_view_root(n) for n in node.all_input_nodes)
    return written


# Views whose elements are not those in memory.
_OTHER_VALUES = {
    torch.ops.aten._conj.default, torch.ops.aten.conj.default, torch.ops.aten._neg_view.default,
}  # fmt: skip


def _view_root(node: fx.Node) -> fx.Node:
    """The node whose memory a chain of views shows."""
    while node.op == "call_function":
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            return node
        if isinstance(node.target, torch._ops.OpOverload):
            if not node.target.is_view or not _same_dtype(source, node) or node.target in _OTHER_VALUES:
                return node
        elif getattr(node.target, "__name__", "") != "getitem" or not _is_view_tuple(source):
            return node
        node = source
    return node


def _is_view_tuple(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target.is_view


def _same_dtype(a: fx.Node, b: fx.Node) -> bool:
    first, second = a.meta.get("val"), b.meta.get("val")
    if isinstance(second, (list, tuple)):
        return isinstance(first, torch.Tensor) and all(first.dtype == t.dtype for t in second)
    return isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and first.dtype == second.dtype


def _blame(segment: Segment, error: UnsupportedError) -> dict[fx.Node, str]:
    """The nodes that a compiler's refusal speaks of."""
    named = {}
    for missing in error.ops:
        hits = [n for n in segment.nodes if op_name(n.target) == missing.op]
        placed = [n for n in hits if missing.place and missing.place.startswith(place_text(source_of(n))[4:] or "\0")]
        for node in placed or hits:
            named[node] = error.text
    if not named:
        # Sizes that a tensor's contents decide stand in no op's name; else the segment is refused as a whole.
        reads = [n for n in segment.nodes if is_read(n)]
        for node in reads or segment.nodes:
            named[node] = error.text
    return named


# The joining function -------------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """A compiled segment: a function, what it takes and gives (nodes and symbols). `direct`: it takes the graph's own
    arguments, all in order."""

    function: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]
    direct: bool = False


class _Names:
    """Variables of the joining function, and how it finds the value of a size symbol."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.nodes: dict[fx.Node, str] = {}
        self.symbols: dict[Any, str] = {}

    def add(self, node: Any) -> str:
        """The variable of a node, or of a symbol."""
        if not isinstance(node, fx.Node):
            name = self.symbols[node] = f"n{len(self.symbols)}"
            return name
        name = self.nodes[node] = f"v{len(self.nodes)}"
        value = node.meta.get("val")
        if is_symbolic(value):
            expr = value.node.expr
            if expr.is_Symbol:
                self.symbols[expr] = name
        elif isinstance(value, torch.Tensor):
            for dim, size in enumerate(value.shape):
                if is_symbolic(size):
                    expr = size.node.expr
                    if expr.is_Symbol and expr not in self.symbols:
                        self.symbols[expr] = f"{name}.size({dim})"
        return name

    def scalar(self, value: Any) -> str:
        if not is_symbolic(value):
            return repr(value)
        return self.expression(expr_of(value))

    def expression(self, expr: Any) -> str:
        import sympy

        if self.env is not None:
            expr = self.env.replace(expr)
        missing = [s for s in expr.free_symbols if s not in self.symbols]
        if missing:
            raise UnsupportedError("unsupported", f"no input shows the size `{missing[0]}` of `{expr}`")
        renamed = {s: sympy.Symbol(f"@{i}@", integer=True) for i, s in enumerate(sorted(expr.free_symbols, key=str))}
        text = PythonPrinter().doprint(expr.xreplace(renamed)) if renamed else str(expr)
        for symbol, stand_in in renamed.items():
            text = text.replace(stand_in.name, self.symbols[symbol])
        return text


def _join(compiler: _GraphCompiler, segments: list[Segment], runs: list[_Run]) -> Callable[[list[Any]], list[Any]]:
    if len(runs) == 1 and segments[0].native and [o.node for o in compiler.outputs] == runs[0].outputs:
        if all(o.kind == "node" for o in compiler.outputs):
            if all(isinstance(item, fx.Node) for item in runs[0].inputs):
                compiler.report.flat = compiler.report.compiled[-1].flat
                compiler.report.flat_inputs = runs[0].inputs
            if runs[0].direct:
                return _boxed(runs[0].function)
    names = _Names(compiler.env)
    lines = ["def run(args):"]
    arguments = [names.add(node) for node in compiler.placeholders]
    if arguments:
        lines.append(f"    {', '.join(arguments)}, = args")
    lines.append("    args.clear()")
    scope: dict[str, Any] = {"math": __import__("math"), "torch": torch}
    uses = _last_uses(compiler, segments)
    for index, (segment, run) in enumerate(zip(segments, runs)):
        scope[f"segment{index}"] = run.function
        taken = [_argument(names, item) for item in run.inputs]
        outputs = run.outputs if segment.native else segment.outputs
        call = f"segment{index}([{', '.join(taken)}])" if segment.native else f"segment{index}({', '.join(taken)})"
        made = [names.add(node) for node in outputs]
        lines.append(f"    {', '.join(made)}, = {call}" if made else f"    {call}")
        dead = [names.nodes[n] for n in uses.get(index, ()) if n in names.nodes]
        if dead:
            lines.append(f"    del {', '.join(dead)}")
    results = [_result(names, output) for output in compiler.outputs]
    lines.append(f"    return [{', '.join(results)}]")
    exec(compile("\n".join(lines), f"<toroid {compiler.report.name}>", "exec"), scope)
    return _boxed(scope["run"])


def _argument(names: _Names, item: Any) -> str:
    if not isinstance(item, fx.Node):
        return names.expression(item)
    if item in names.nodes:
        return names.nodes[item]
    return names.scalar(item.meta["val"])


def _result(names: _Names, output: _Output) -> str:
    if output.kind == "constant":
        return repr(output.value)
    if output.kind == "scalar":
        return names.scalar(output.value)
    assert output.node is not None
    base = names.nodes[output.node]
    if output.kind == "node":
        return base
    view = output.value
    root = output.node.meta["val"]
    sizes = ", ".join(names.scalar(s) for s in view.shape)
    strides = ", ".join(names.scalar(s) for s in view.stride())
    offset = names.scalar(view.storage_offset() - root.storage_offset())
    # The argument at run time may begin elsewhere in its storage than the example did.
    if output.node.op == "placeholder":
        offset = f"{base}.storage_offset()" if offset == "0" else f"{base}.storage_offset() + {offset}"
    return f"{base}.as_strided(({sizes}{',' if view.dim() else ''}), ({strides}{',' if view.dim() else ''}), {offset})"


def _last_uses(compiler: _GraphCompiler, segments: list[Segment]) -> dict[int, list[fx.Node]]:
    """After which segment a tensor is no longer needed; sizes of tensors may be asked for until the end."""
    if compiler.env is not None and any(
        is_symbolic(s) for n in compiler.gm.graph.nodes if _is_tensor(n) for s in n.meta["val"].shape
    ):
        return {}
    last: dict[fx.Node, int] = {}
    for index, segment in enumerate(segments):
        for node in segment.inputs:
            if _is_tensor(node):
                last[node] = index
    dead: dict[int, list[fx.Node]] = {}
    for node, index in last.items():
        if node not in compiler.wanted and index + 1 < len(segments):
            dead.setdefault(index, []).append(node)
    return dead


def _boxed(function: Callable[[list[Any]], list[Any]]) -> Callable[[list[Any]], list[Any]]:
    try:
        function._boxed_call = True  # type: ignore[attr-defined]
        return function
    except AttributeError:

        def run(args: list[Any]) -> list[Any]:
            return function(args)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run
