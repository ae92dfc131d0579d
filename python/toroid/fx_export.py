"""A torch.export ExportedProgram to a GraphBuilder, without saving it and without copying its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument, TensorArgument

from . import _native
from ._errors import UnsupportedError
from .fx_graph import FxTranslator, correct_types, op_name
from .fx_guards import read_guard
from .fx_symbols import Symbols, is_symbolic, shape_env_of


@dataclass(frozen=True)
class Slot:
    """One flattened argument or result. `kind` is tensor, size or constant; `value` is a constant's value."""

    name: str
    kind: str
    value: Any = None


@dataclass(frozen=True)
class ExportedGraph:
    """The builder of an exported program. Its inputs and outputs are the leaves of `in_spec` (of (args, kwargs)) and
    `out_spec`, in order, each with its slot."""

    builder: _native.GraphBuilder
    inputs: list[Slot]
    outputs: list[Slot]
    in_spec: Any
    out_spec: Any


def translate_exported(program: torch.export.ExportedProgram, name: str = "model") -> ExportedGraph:
    """Raises UnsupportedError with every op that Toroid lacks and its place in the user's program."""
    program = _without_vmap(program)
    graph = program.graph_module.graph
    correct_types(graph)
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    builder = _native.GraphBuilder(name)
    env = shape_env_of(n.meta.get("val") for n in graph.nodes)
    symbols = Symbols(builder, env, program.range_constraints, data_decide=True)
    translator = FxTranslator(builder, symbols)
    inputs = _add_inputs(program, translator, placeholders)
    _add_guards(program, symbols, builder, placeholders)
    translator.run(graph.nodes)
    if translator.refused:
        raise translator.error()
    outputs = _add_outputs(program, translator, placeholders)
    return ExportedGraph(builder, inputs, outputs, program.call_spec.in_spec, program.call_spec.out_spec)


def _without_vmap(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Regions of torch.vmap hold the ops of one example; PyTorch knows every op's batched form."""
    if not any("_functorch.predispatch" in op_name(n.target) for n in program.graph.nodes if n.op == "call_function"):
        return program
    try:
        return program.run_decompositions({})
    except Exception as error:
        raise UnsupportedError("unsupported", f"torch.vmap in a program that PyTorch cannot decompose: {error}") from error


_WEIGHTS = {InputKind.PARAMETER: "parameter", InputKind.BUFFER: "buffer", InputKind.CONSTANT_TENSOR: "constant"}


def _add_inputs(program: Any, translator: FxTranslator, placeholders: dict[str, Any]) -> list[Slot]:
    slots = []
    for spec in program.graph_signature.input_specs:
        if spec.kind in _WEIGHTS:
            tensor = program.state_dict.get(spec.target)
            if tensor is None:
                tensor = program.constants.get(spec.target)
            if not isinstance(tensor, torch.Tensor):
                raise UnsupportedError("unsupported", f"the exported program holds no tensor `{spec.target}`")
            persistent = spec.persistent is not False
            node = placeholders[spec.arg.name]
            translator.values[node] = translator.weight(spec.target, tensor, _WEIGHTS[spec.kind], persistent)
        elif spec.kind is InputKind.USER_INPUT:
            slots.append(_user_input(spec.arg, translator, placeholders))
        else:
            raise UnsupportedError("unsupported", f"an input of kind `{spec.kind.name.lower()}`")
    return slots


def _user_input(arg: Any, translator: FxTranslator, placeholders: dict[str, Any]) -> Slot:
    node = placeholders[arg.name]
    if isinstance(arg, ConstantArgument):
        value = arg.value
        translator.values[node] = value
        translator.builder.constant_input(arg.name, value)
        return Slot(arg.name, "constant", value)
    if not isinstance(arg, (TensorArgument, SymIntArgument)):
        kind = type(arg).__name__.removesuffix("Argument")
        raise UnsupportedError("unsupported", f"input `{arg.name}` is a dynamic scalar of kind {kind}")
    translator.add_input(node, arg.name)
    return Slot(arg.name, "tensor" if isinstance(arg, TensorArgument) else "size")


def _add_outputs(program: Any, translator: FxTranslator, placeholders: dict[str, Any]) -> list[Slot]:
    builder, symbols = translator.builder, translator.symbols
    output = next(node for node in program.graph_module.graph.nodes if node.op == "output")
    weights = {spec.target: spec.arg.name for spec in program.graph_signature.input_specs if spec.kind in _WEIGHTS}
    slots, writes = [], []
    for spec, result in zip(program.graph_signature.output_specs, output.args[0]):
        value = translator.values.get(result) if isinstance(result, torch.fx.Node) else result
        if spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION, OutputKind.USER_INPUT_MUTATION):
            target = spec.target if spec.kind is OutputKind.USER_INPUT_MUTATION else weights[spec.target]
            writes.append((translator.values[placeholders[target]], value))
            continue
        if spec.kind not in (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT):
            raise UnsupportedError("unsupported", f"an output of kind `{spec.kind.name.lower()}`")
        name = getattr(spec.arg, "name", "") or ""
        if isinstance(value, _native.Tensor):
            builder.output(value, name)
            slots.append(Slot(name, "tensor"))
        elif isinstance(value, torch.SymBool):
            raise UnsupportedError("unsupported", f"the output `{name}` is a bool that is read from a tensor: return the tensor")
        elif is_symbolic(value):
            builder.size_output(symbols.size(value), name)
            slots.append(Slot(name, "size"))
        else:
            builder.constant_output(value, name)
            slots.append(Slot(name, "constant", value))
    for target, value in writes:
        builder.assign(target, value)
    return slots


def _add_guards(program: Any, symbols: Symbols, builder: Any, placeholders: dict[str, Any]) -> None:
    """What the export assumed of input sizes and did not repeat as an assertion in the graph."""
    for line in getattr(program, "_guards_code", None) or ():
        condition = read_guard(line, placeholders)
        if condition is not sympy.true:
            builder.check(str(symbols.expression(condition)), line)
