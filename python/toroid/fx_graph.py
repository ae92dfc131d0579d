"""FX graphs of ATen ops, from torch.export or AOTAutograd, to calls of a GraphBuilder.

`FxTranslator` knows nodes and arguments; what a graph's inputs and outputs mean is the business of its users
(fx_export.py, backend.py). Types are what `node.meta["val"]` says, and are checked against Toroid's own rules.
"""

from __future__ import annotations

import functools
import importlib
import operator
import re
from typing import Any, Iterable

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import SymT, symbol_is_type
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten

from . import _native
from ._errors import UnsupportedError
from .fx_symbols import Symbols, expr_of, is_symbolic

DTYPES: dict[torch.dtype, str] = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.uint16: "u16",
    torch.uint32: "u32",
    torch.uint64: "u64",
    torch.bool: "bool",
    torch.float8_e4m3fn: "f8e4m3",
    torch.float8_e5m2: "f8e5m2",
    torch.complex32: "c32",
    torch.complex64: "c64",
    torch.complex128: "c128",
}
_FORMATS = {
    torch.contiguous_format: "contiguous",
    torch.channels_last: "channels_last",
    torch.channels_last_3d: "channels_last_3d",
    torch.preserve_format: "preserve",
}
_HOST_READS = {"aten._local_scalar_dense.default", "aten.item.default"}
# What stands for the order of effects at a graph's ends.
_TOKENS = {"prims._make_token.default", "prims._sink_tokens.default"}
_ASSERTIONS = {
    "aten._assert_scalar.default",
    "aten._assert_tensor_metadata.default",
    "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default",
    "aten._functional_assert_scalar.default",
    "aten._functional_sym_constrain_range.default",
    "aten._functional_sym_constrain_range_for_size.default",
    "aten._make_dep_token.default",
}
# Higher-order ops that run their graph as it stands, under a mode that says nothing here: where the graph is, and where
# its operands begin.
_TRANSPARENT = {"wrap_with_set_grad_enabled": (1, 2), "wrap_with_autocast": (4, 5), "invoke_subgraph": (0, 2)}
# Higher-order ops that the compiler takes with the programs they run: how many of those, and where they begin.
CONTROL_FLOW = {"cond": (1, 2), "while_loop": (0, 2), "scan": (0, 1), "map_impl": (0, 1)}


class Missing(Exception):
    """A node's argument comes from a node that could not be translated."""


def op_name(target: Any) -> str:
    """aten.add.Tensor, higher_order.cond, or a Python function's name."""
    if isinstance(target, torch._ops.OpOverload):
        return f"{target.namespace}.{target._schema.name.split('::')[1]}.{target._overloadname}"
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target.name()}"
    return f"{getattr(target, '__module__', '') or ''}.{getattr(target, '__name__', target)}".lstrip(".")


@functools.lru_cache(maxsize=4096)
def _frame(stack_trace: str) -> tuple[str, int]:
    """File and line of the innermost frame that is not PyTorch's own."""
    frames = re.findall(r'File "([^"\n]+)", line (\d+)', stack_trace)
    for file, line in reversed(frames):
        if "-packages/torch/" not in file:
            return file, int(line)
    return "", 0


@functools.lru_cache(maxsize=4096)
def _module_path(path: str) -> str:
    """L['self'].encoder.layer[0] -> encoder.layer.0"""
    path = re.sub(r"^L\['(?:self|fn|mod|args)'\](?:\.|$)", "", path)
    path = re.sub(r"^(?:self|fn)\.", "", path)
    path = re.sub(r"\[(?:'|\")?([^\]'\"]+)(?:'|\")?\]", r".\1", path)
    path = path.replace("_modules.", "").replace("._modules", "")
    return re.sub(r"[^\w.]", "_", path).strip(".")


def source_of(node: fx.Node) -> tuple[str, str, int] | None:
    """Module path, file and line of the user's program that a node comes from."""
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack")
    module = ""
    if stack:
        last = next(reversed(stack.values()))
        module = _module_path(last[0] if isinstance(last, tuple) else str(last))
    trace = node.stack_trace or node.meta.get("fwd_stack_trace") or ""
    file, line = _frame(trace) if trace else ("", 0)
    if not module and not file:
        return None
    return module, file.rsplit("/", 1)[-1], line


def place_text(source: tuple[str, str, int] | None) -> str:
    """ " at encoder.fc, model.py:12", or nothing."""
    if source is None:
        return ""
    module, file, line = source
    return " at " + ", ".join(part for part in (module, f"{file}:{line}" if file else "") if part)


def dtype_name(dtype: torch.dtype) -> str:
    name = DTYPES.get(dtype)
    if name is None:
        raise UnsupportedError("unsupported", f"element type `{dtype}`")
    return name


def check_tensor(tensor: torch.Tensor, what: str) -> None:
    """Refuses what is no strided tensor on the CPU."""
    if tensor.layout is not torch.strided:
        raise UnsupportedError("unsupported", f"{what} is a tensor of layout {tensor.layout}")
    if tensor.device.type != "cpu":
        raise UnsupportedError("unsupported", f"{what} is on device `{tensor.device}`")
    if tensor.dtype not in DTYPES or tensor.is_quantized:
        raise UnsupportedError("unsupported", f"{what} has element type `{tensor.dtype}`")


def correct_types(graph: fx.Graph) -> None:
    """Puts right what FakeTensors say of a norm's statistics: on the CPU they are as wide as the weights."""
    for node in graph.nodes:
        if node.target is not torch.ops.aten.native_layer_norm.default:
            continue
        weight, value = node.args[2], node.meta.get("val")
        if not isinstance(weight, fx.Node) or not isinstance(value, (tuple, list)):
            continue
        wide = torch.promote_types(value[0].dtype, weight.meta["val"].dtype)
        node.meta["val"] = (value[0], *(None if v is None else v.to(wide) for v in value[1:]))
        for user in node.users:
            if user.target is operator.getitem:
                user.meta["val"] = node.meta["val"][user.args[1]]


class FxTranslator:
    """Adds nodes of an FX graph to a builder. `values` maps each node to what it stands for: a `_native.Tensor`, a list
    of values, a Python constant, or a symbolic scalar as PyTorch holds it."""

    def __init__(self, builder: _native.GraphBuilder, symbols: Symbols, nested: bool = False) -> None:
        self.builder = builder
        # A program of control flow: it holds no weights.
        self.nested = nested
        self._autocast = ""
        self.symbols = symbols
        self.values: dict[fx.Node, Any] = {}
        # Nodes that cannot be compiled, and why; empty: their op has no lowering.
        self.refused: dict[fx.Node, str] = {}
        self._refusals = 0
        self._storages: dict[int, int] = {}
        self._owners: dict[int, Any] = {}
        self._weights: dict[tuple[Any, ...], _native.Tensor] = {}
        self._weight_names: set[str] = set()

    def contents(self) -> tuple[Any, ...]:
        """What the graph's text does not show of the tensors that it holds: where they lie in their memory, and its hash."""
        hashes = {key: _native.hash_memory(storage.data_ptr(), storage.nbytes()) for key, storage in self._owners.items()}
        return tuple((hashes[key], *rest) for key, *rest in self._weights)

    # Inputs and weights ----------------------------------------------------------------------------------------------

    def add_input(self, node: fx.Node, name: str) -> None:
        """Declares a placeholder as the builder's next input."""
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            check_tensor(value, f"input `{name}`")
            shape, stride = self.symbols.sizes(value.shape), self.symbols.sizes(value.stride())
            offset = value.storage_offset()
            start = {"offset": offset} if type(offset) is int else {}
            self.values[node] = self.builder.input(name, dtype_name(value.dtype), shape, stride, **start)
        elif isinstance(value, torch.SymInt):
            self.values[node] = value
            self.builder.size_input(name, self.symbols.size(value))
        elif value is None or isinstance(value, (bool, int, float, complex, str)):
            self.values[node] = value
            self.builder.constant_input(name, value)
        else:
            raise UnsupportedError("unsupported", f"input `{name}` is a {type(value).__name__}")

    def weight(self, name: str, tensor: torch.Tensor, kind: str, persistent: bool = True) -> _native.Tensor:
        """A tensor that comes with the program; its memory is borrowed, and kept alive by the builder."""
        check_tensor(tensor, f"`{name}`")
        if any(type(size) is not int for size in tensor.shape):
            raise UnsupportedError("unsupported", f"`{name}`: a tensor of the program whose sizes are not known")
        # A backend is called with tracing modes on.
        with _disable_current_modes():
            tensor = tensor.detach()
            if tensor.is_conj() or tensor.is_neg():
                tensor = tensor.resolve_conj().resolve_neg()
            if self.nested:
                return self._number(tensor)
        storage = tensor.untyped_storage()
        key = storage._cdata
        place = (key, tensor.dtype, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), kind)
        if place in self._weights:
            return self._weights[place]
        if key not in self._storages:
            self._storages[key] = self.builder.storage(storage.data_ptr(), storage.nbytes(), owner=storage)
            self._owners[key] = storage
        unique, number = name, 0
        while unique in self._weight_names:
            number += 1
            unique = f"{name}_{number}"
        self._weight_names.add(unique)
        made = self.builder.weight(
            unique,
            dtype_name(tensor.dtype),
            list(tensor.shape),
            self._storages[key],
            kind=kind,
            persistent=persistent,
            strides=list(tensor.stride()),
            offset=tensor.storage_offset(),
        )
        self._weights[place] = made
        return made

    def _number(self, tensor: torch.Tensor) -> _native.Tensor:
        if tensor.dim() or tensor.dtype.is_complex:
            raise UnsupportedError("unsupported", "a tensor that control flow's program holds itself")
        dtype = _native.Dtype(dtype_name(tensor.dtype))
        return self.builder.call("aten.full.default", [[], tensor.item()], {"dtype": dtype})[0]

    # Nodes -----------------------------------------------------------------------------------------------------------

    def run(self, nodes: Iterable[fx.Node]) -> None:
        """Translates nodes in order. What cannot be is remembered in `refused`, with what depends on it left out."""
        for node in nodes:
            if node in self.values or node.op in ("placeholder", "output"):
                continue
            try:
                self._node(node)
            except Missing:
                continue
            except UnsupportedError as error:
                plain = error.text.startswith("no lowering for `")
                self.refused[node] = "" if plain else error.text
            except (TypeError, OverflowError) as error:
                # An argument of a kind that no builder takes: a custom class, an int beyond 64 bits.
                self.refused[node] = str(error).splitlines()[0]
            else:
                if fresh := self.builder.refusals(self._refusals):
                    self._refusals += len(fresh)
                    self.refused[node] = fresh[0]

    def error(self) -> UnsupportedError:
        """Every refused op once, with the place where the user's program first has it."""
        lines: dict[tuple[str, str], str] = {}
        for node, reason in self.refused.items():
            name = op_name(node.target)
            line = f"`{name}`{place_text(source_of(node))}" + (f": {reason}" if reason else "")
            lines.setdefault((name, reason), line)
        first = op_name(next(iter(self.refused)).target)
        more = len({name for name, _ in lines}) - 1
        text = f"no lowering for `{first}`" + (f" and {more} more op{'s' if more > 1 else ''}" if more else "")
        return UnsupportedError("unsupported_op", text, list(lines.values()))

    def _node(self, node: fx.Node) -> None:
        if node.op == "get_attr":
            self.values[node] = self._attribute(node)
            return
        if node.op != "call_function":
            raise UnsupportedError("unsupported", f"a node of kind `{node.op}`")
        target = node.target
        if target is operator.getitem and not is_symbolic(node.meta.get("val")):
            self.values[node] = self._value(node.args[0])[node.args[1]]
            return
        name = op_name(target)
        if name in _TOKENS:
            self.values[node] = None
        elif name in _HOST_READS:
            self._host_read(node)
        elif name in _ASSERTIONS:
            self._assertion(node, name)
        elif self._is_scalar(node):
            # PyTorch knows the value as an expression over sizes; how it was computed does not matter.
            self.values[node] = node.meta["val"]
        elif isinstance(target, torch._ops.OpOverload):
            self._call(node, name)
        elif isinstance(target, torch._ops.HigherOrderOperator) and target.name() in _TRANSPARENT:
            self._inline(node, *_TRANSPARENT[target.name()])
        elif isinstance(target, torch._ops.HigherOrderOperator) and target.name() in CONTROL_FLOW:
            self._control(node, name)
        elif name == "higher_order.flex_attention":
            self._flex_attention(node)
        elif name == "higher_order.out_dtype":
            self._wide_product(node)
        elif name == "higher_order.with_effects":
            self._effect(node)
        else:
            raise UnsupportedError("unsupported_op", f"no lowering for `{name}`")

    def _is_scalar(self, node: fx.Node) -> bool:
        value = node.meta.get("val")
        if isinstance(value, (bool, int, float)):
            return True
        return is_symbolic(value)

    def _attribute(self, node: fx.Node) -> Any:
        owner: Any = node.graph.owning_module
        *path, last = str(node.target).split(".")
        for part in path:
            owner = getattr(owner, part)
        value = getattr(owner, last)
        if isinstance(value, torch.Tensor):
            return self.weight(str(node.target), value, "constant")
        return value

    def _value(self, arg: Any) -> Any:
        if isinstance(arg, fx.Node):
            try:
                return self.values[arg]
            except KeyError:
                raise Missing from None
        return arg

    def argument(self, arg: Any) -> Any:
        """An argument of an FX node as the builder takes it."""
        if isinstance(arg, fx.Node):
            arg = self._value(arg)
        if arg is None or isinstance(arg, (_native.Tensor, bool, int, float, complex, str)):
            return arg
        if is_symbolic(arg):
            text = self.symbols.size(arg)
            return text if isinstance(text, int) else _native.Size(text)
        if isinstance(arg, (list, tuple)):
            return [self.argument(item) for item in arg]
        if isinstance(arg, torch.dtype):
            return _native.Dtype(dtype_name(arg))
        if isinstance(arg, torch.memory_format):
            return _native.Format(_FORMATS[arg])
        if isinstance(arg, torch.device):
            if arg.type != "cpu":
                raise UnsupportedError("unsupported", f"device `{arg}`")
            return _native.Place("cpu")
        if isinstance(arg, torch.layout):
            if arg is not torch.strided:
                raise UnsupportedError("unsupported", f"layout {arg}")
            return None
        if isinstance(arg, torch.Tensor):
            return self.weight("constant", arg, "constant")
        raise UnsupportedError("unsupported", f"an argument of type {type(arg).__name__}")

    def _call(self, node: fx.Node, name: str) -> None:
        value = node.meta.get("val")
        claims = self.claims(value)
        args = [self.argument(arg) for arg in node.args]
        kwargs = {key: self.argument(arg) for key, arg in node.kwargs.items()}
        source = source_of(node)
        if name == "prims.convert_element_type.default":
            name, args, kwargs = "aten._to_copy.default", args[:1], {"dtype": args[1]}
        elif name == "aten._neg_view.default":
            # A view to PyTorch, which negates when someone looks.
            name = "aten.neg.default"
        elif name == "prims.fma.default":
            # Eager steps of an optimizer round the product, too.
            name, args = "aten.add.Tensor", [*self.builder.call("aten.mul.Tensor", args[:2], {}, source), args[2]]
        results = self.builder.call(name, args, kwargs, source, claims)
        self.values[node] = self._results(value, results)

    def claims(self, value: Any) -> list[Any] | None:
        """What PyTorch says the results of a node are; None where some result is neither a tensor nor None."""
        leaves: list[torch.Tensor | None] = []
        if value is None or not _tensor_leaves(value, leaves):
            return None
        rows: list[Any] = []
        for leaf in leaves:
            if leaf is None:
                rows.append(None)
                continue
            check_tensor(leaf, "a result")
            shape, stride, offset = self.symbols.sizes(leaf.shape), self.symbols.sizes(leaf.stride()), leaf.storage_offset()
            depends = is_symbolic(offset) and any(symbol_is_type(s, SymT.UNBACKED_INT) for s in expr_of(offset).free_symbols)
            rows.append((dtype_name(leaf.dtype), shape, stride, self.symbols.size(offset) if depends else None))
        return rows

    def _results(self, value: Any, results: list[_native.Tensor]) -> Any:
        """The builder's flat results in the structure of the node's value."""
        if isinstance(value, torch.Tensor):
            return results[0]
        if not isinstance(value, (list, tuple)):
            return results
        at = iter(results)

        def shape(item: Any) -> Any:
            if isinstance(item, (list, tuple)):
                return [shape(inner) for inner in item]
            tensor = next(at, None)
            return tensor if isinstance(item, torch.Tensor) else None

        return shape(value)

    def _host_read(self, node: fx.Node) -> None:
        value = node.meta.get("val")
        if is_symbolic(value):
            self._read_number(value, self.argument(node.args[0]), source_of(node))
        self.values[node] = value

    def _read_number(self, value: Any, tensor: _native.Tensor, source: Any) -> None:
        """The symbol of a scalar takes the value of a tensor's element, if it has none yet."""
        fresh = [s for s in value.node.expr.free_symbols if s not in self.symbols.names]
        if len(fresh) > 1:
            raise UnsupportedError("unsupported", f"a value read from a tensor that is `{value.node.expr}`")
        if fresh:
            self.symbols.read_scalar(fresh[0], tensor, source)

    def _assertion(self, node: fx.Node, name: str) -> None:
        self.values[node] = None
        if name.startswith(("aten._assert_tensor_metadata", "aten._make_dep_token")):
            return
        condition = self._value(node.args[0])
        if "assert_scalar" in name:
            text = str(node.args[1]) if len(node.args) > 1 else "an assertion of the model does not hold"
            if is_symbolic(condition):
                self.builder.check(str(self.symbols.size(condition)), text)
            elif not condition:
                raise UnsupportedError("unsupported", f"the model asserts what can never hold: {text}")
            return
        if not is_symbolic(condition):
            return
        size = self.symbols.size(condition)
        bounds = {"min": None, "max": None, **node.kwargs}
        for key, arg in zip(("min", "max"), node.args[1:]):
            bounds[key] = arg
        for key, sign in (("min", ">="), ("max", "<=")):
            if bounds[key] is not None:
                self.builder.check(f"({size}) {sign} {bounds[key]}", f"a value of the model must be {sign} {bounds[key]}")

    def _control(self, node: fx.Node, name: str) -> None:
        start, count = CONTROL_FLOW[node.target.name()]
        value = node.meta.get("val")
        leaves = value if isinstance(value, (list, tuple)) else [value]
        # Numbers that the programs find are tensors, which are read behind the call.
        claims = self.claims([torch.empty((), dtype=torch.int64) if _is_number(leaf) else leaf for leaf in leaves])
        if claims is None:
            raise UnsupportedError("unsupported", "a result of control flow that is neither a tensor nor an int")
        lists = [self._value(arg) if isinstance(arg, fx.Node) else arg for arg in node.args[start + count :]]
        # Numbers are known inside: only tensors are handed over, and numbers that a loop carries.
        carries = node.target.name() == "while_loop"
        kept = [
            [i for i, operand in enumerate(one) if _is_tensor_node(operand) or (carries and at == 0)]
            for at, one in enumerate(lists)
        ]
        if node.target.name() in ("scan", "map_impl") and any(len(k) != len(one) for k, one in zip(kept[:-1], lists)):
            raise UnsupportedError("unsupported", "a number that a loop carries")
        at, positions = 0, []
        for one, k in zip(lists, kept):
            positions += [at + i for i in k]
            at += len(one)
        operands = [operand for one in lists for operand in one]
        programs = [self._program(self._value(arg), operands, positions) for arg in node.args[start : start + count]]
        args = [self.argument(arg) for arg in node.args[:start]]
        source = source_of(node)
        tensors = [[self._as_tensor(one[i], source) for i in k] for one, k in zip(lists, kept)]
        results = self.builder.call(name, [*args, *programs, *tensors], {}, source, claims)
        made: list[Any] = []
        for leaf, result in zip(leaves, results):
            if _is_number(leaf):
                if is_symbolic(leaf):
                    self._read_number(leaf, result, source)
                made.append(leaf)
            else:
                made.append(result if isinstance(leaf, torch.Tensor) else None)
        self.values[node] = made if isinstance(value, (list, tuple)) else made[0]

    def _as_tensor(self, operand: Any, source: Any) -> Any:
        """An operand that a loop carries; a number as a tensor of one."""
        value = self.argument(operand)
        if isinstance(value, _native.Tensor):
            return value
        if isinstance(value, (bool, float)) or not isinstance(value, (int, _native.Size)):
            raise UnsupportedError("unsupported", f"a loop that carries `{operand}`")
        return self.builder.call("aten.full.default", [[], value], {"dtype": _native.Dtype("i64")}, source)[0]

    def _program(self, module: fx.GraphModule, operands: list[Any], positions: list[int]) -> _native.Program:
        """A graph that control flow runs, with the operands at `positions` as its inputs."""
        builder = _native.GraphBuilder("body")
        inner = FxTranslator(builder, self.symbols.nested(builder), nested=True)
        inner._set_autocast(self._autocast)
        placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
        if len(placeholders) != len(operands):
            raise UnsupportedError("unsupported", "control flow whose program takes other operands than it is given")
        for index, placeholder in enumerate(placeholders):
            value = placeholder.meta.get("val")
            if index not in positions:
                inner.values[placeholder] = self._value(operands[index])
            elif isinstance(value, torch.SymInt):
                for symbol in value.node.expr.free_symbols:
                    inner.symbols.forget(symbol)
                inner._read_number(value, builder.input(placeholder.name, "i64", [], []), None)
                inner.values[placeholder] = value
            else:
                inner.add_input(placeholder, placeholder.name)
        inner.run(module.graph.nodes)
        if inner.refused:
            error = inner.error()
            raise UnsupportedError("unsupported", "; ".join(error.details) or error.text)
        output = next(n for n in module.graph.nodes if n.op == "output")
        results = output.args[0]
        for result in results if isinstance(results, (list, tuple)) else [results]:
            value = inner._value(result)
            if isinstance(value, _native.Tensor):
                builder.output(value)
            elif is_symbolic(value) or type(value) is int:
                builder.size_output(inner.symbols.size(value))
            else:
                raise UnsupportedError("unsupported", "control flow whose program gives what is no tensor")
        return self.builder.program(builder)

    def _effect(self, node: fx.Node) -> None:
        """An op that is called for what it does (linalg.inv's check). Its token keeps such ops in order, as ours are."""
        _, op, *args = node.args
        if op._schema.returns:
            raise UnsupportedError("unsupported_op", f"no lowering for `{op_name(op)}` with effects")
        kwargs = {key: self.argument(arg) for key, arg in node.kwargs.items()}
        self.builder.call(op_name(op), [self.argument(arg) for arg in args], kwargs, source_of(node))
        self.values[node] = [None, None]

    def _wide_product(self, node: fx.Node) -> None:
        """out_dtype(op, dtype, *args): the op on operands of the type that the result is to have."""
        op, dtype, *args = node.args
        source = source_of(node)
        to_wide = {"dtype": _native.Dtype(dtype_name(dtype))}
        wide = [self.argument(arg) for arg in args]
        for i, arg in enumerate(wide):
            if isinstance(arg, _native.Tensor):
                wide[i] = self.builder.call("aten._to_copy.default", [arg], to_wide, source)[0]
        value = node.meta.get("val")
        self.values[node] = self._results(value, self.builder.call(op_name(op), wide, {}, source, self.claims(value)))

    def _flex_attention(self, node: fx.Node) -> None:
        """The ops of the plain formula around the user's functions, which PyTorch traces."""
        formula = importlib.import_module("torch._higher_order_ops.flex_attention").sdpa_dense
        flat, spec = tree_flatten((node.args, node.kwargs))
        values = [self._value(leaf) if isinstance(leaf, fx.Node) else leaf for leaf in flat]
        given = [i for i, value in enumerate(values) if isinstance(flat[i], fx.Node) and not isinstance(value, fx.GraphModule)]

        def call(*leaves: Any) -> Any:
            filled = [value if isinstance(value, fx.GraphModule) else leaf for leaf, value in zip(flat, values)]
            for i, leaf in zip(given, leaves):
                filled[i] = leaf
            args, kwargs = tree_unflatten(filled, spec)
            return formula(*args, **kwargs)

        examples = [flat[i].meta["val"] for i in given]
        mode = next(e.fake_mode for e in examples if isinstance(e, FakeTensor))
        with mode:
            traced = make_fx(call, tracing_mode="real")(*examples)
        for placeholder, i in zip((n for n in traced.graph.nodes if n.op == "placeholder"), given):
            self.values[placeholder] = values[i]
        self.run(traced.graph.nodes)
        output = next(n for n in traced.graph.nodes if n.op == "output")
        self.values[node] = [self._value(item) for item in output.args[0]]

    def _set_autocast(self, dtype: str) -> None:
        """The dtype of the region of torch.autocast that the next calls stand in; empty: in none."""
        self._autocast = dtype
        self.builder.autocast(dtype)

    def _inline(self, node: fx.Node, graph_at: int, operands_at: int) -> None:
        """The nodes of a graph that a higher-order op runs, in place of the op."""
        around = self._autocast
        if node.target.name() == "wrap_with_autocast" and node.args[0] == "cpu":
            _, dtype, enabled, *_ = node.args
            self._set_autocast(dtype_name(dtype or torch.bfloat16) if enabled else "")
        module = self._value(node.args[graph_at])
        inner = [n for n in module.graph.nodes if n.op == "placeholder"]
        operands = node.args[operands_at:]
        # One graph may be run at several places.
        for known in module.graph.nodes:
            self.values.pop(known, None)
        for placeholder, operand in zip(inner, operands):
            self.values[placeholder] = self._value(operand)
        self.run(module.graph.nodes)
        self._set_autocast(around)
        output = next(n for n in module.graph.nodes if n.op == "output")
        result = output.args[0]
        values = [self._value(item) for item in result] if isinstance(result, (list, tuple)) else self._value(result)
        self.values[node] = values


def _is_number(value: Any) -> bool:
    return type(value) is int or isinstance(value, torch.SymInt)


def _is_tensor_node(operand: Any) -> bool:
    return isinstance(operand, torch.Tensor) or (
        isinstance(operand, fx.Node) and isinstance(operand.meta.get("val"), torch.Tensor)
    )


def _tensor_leaves(value: Any, out: list[torch.Tensor | None]) -> bool:
    if value is None or isinstance(value, torch.Tensor):
        out.append(value)
        return True
    if isinstance(value, (list, tuple)):
        return all(_tensor_leaves(item, out) for item in value)
    return False
