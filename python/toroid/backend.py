"""`torch.compile(f, backend="toroid")`: Dynamo's graph through AOTAutograd to native code."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import threading
import time
import warnings
from typing import Any, Callable, Iterator, Sequence

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.exc import ShortenTraceback
from torch._functorch import config as functorch_config
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from . import _native, cache
from ._errors import Error, UnsupportedError
from .backend_options import BackendOptions, parse_options
from .fx_graph import correct_types
from .fx_program import GraphReport, compile_graph
from .segments import is_random


class FallbackWarning(UserWarning):
    """An op that Toroid lacks runs in PyTorch."""


class _Raised(ShortenTraceback):
    """Lets Dynamo raise an error of ours as it is, without wrapping it in its own."""


@functools.lru_cache(maxsize=None)
def _through_dynamo(kind: type) -> type:
    made = type(kind.__name__, (kind, _Raised), {"__module__": kind.__module__, "__init__": lambda self, *a: None})
    return made


def _pass_through(error: Error) -> Error:
    passed = _through_dynamo(type(error))()
    passed.args = error.args
    passed.__dict__.update(error.__dict__)
    passed.first_useful_frame = None
    return passed.with_traceback(error.__traceback__)


_listeners = threading.local()
_warned: set[tuple[str, str]] = set()
_numbers = itertools.count(1)


@contextlib.contextmanager
def listening(reports: list[GraphReport]) -> Iterator[None]:
    """What this thread compiles in the block is reported to the list too."""
    stack = _listeners.__dict__.setdefault("stack", [])
    stack.append(reports)
    try:
        yield
    finally:
        stack.remove(reports)


def toroid(
    gm: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Callable[..., Any]:
    """The backend. `options`: see toroid.backend_options.BackendOptions."""
    parsed = parse_options(mode, options)
    if torch._dynamo.config.prepare_freezing:
        _guard_parameters(gm)
    bare = _Bare(gm, example_inputs)
    try:
        # The plain formula: its pieces are ops that the fuser knows as attention, in both directions. Effects begin and
        # end inside the graph, not at its inputs and outputs.
        with sdpa_kernel(SDPBackend.MATH), functorch_config.patch(unlift_effect_tokens=True):
            function = _aot(parsed, bare)(gm, example_inputs)
    except Error as error:
        raise _pass_through(error) from None
    return bare.function or function


def reset() -> None:
    """Called by torch.compiler.reset()."""
    cache.clear()
    _warned.clear()


toroid.reset = reset  # type: ignore[attr-defined]


def _guard_parameters(gm: torch.fx.GraphModule) -> None:
    """Dynamo would call a program with one module's parameters in it for another module of the same shape."""
    from torch._dynamo.guards import GuardBuilder

    context = torch._guards.TracingContext.try_get()
    if context is None:
        return
    owners = set()
    for source in (getattr(gm, "_param_name_to_source", None) or {}).values():
        # The object that the program reaches the parameter by: a module, for most.
        while getattr(source, "base", None) is not None:
            source = source.base
        owners.add(source)
    for source in owners:
        context.guards_context.dynamo_guards.add(source.make_guard(GuardBuilder.ID_MATCH))


class _Bare:
    """Finds out whether a graph's native function does all that AOTAutograd's function around it does: it writes to no
    argument, gives no views, unwraps nothing, and no gradient flows. Then Dynamo calls it without the rest."""

    def __init__(self, gm: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> None:
        self.function: Callable[..., Any] | None = None
        self._count = len(example_inputs)
        output = next(node for node in gm.graph.nodes if node.op == "output")
        values = [node.meta.get("example_value") for node in output.all_input_nodes]
        self._plain = all(_is_plain(value) for value in (*example_inputs, *values))

    def offer(self, gm: torch.fx.GraphModule, report: GraphReport) -> None:
        context = torch._guards.TracingContext.try_get()
        if not self._plain or report.flat is None or context is None or context.fw_metadata is None:
            return
        about = context.fw_metadata
        placeholders = [node for node in gm.graph.nodes if node.op == "placeholder"]
        # Frozen parameters come first, and are no arguments.
        if len(about.input_info) != len(placeholders) or placeholders[len(placeholders) - self._count :] != report.flat_inputs:
            return
        if any(info.mutates_data or info.mutates_metadata for info in about.input_info):
            return
        if about.num_outputs_aliased or about.num_intermediate_bases or about.dynamic_outputs or about.tokens:
            return
        if about.grad_enabled_mutation is None and not about.is_rng_op_functionalized:
            self.function = report.flat


def _is_plain(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not is_traceable_wrapper_subclass(value)
    return isinstance(value, (int, torch.SymInt))


def _aot(options: BackendOptions, bare: _Bare) -> Any:
    number = next(_numbers)
    return aot_autograd(
        fw_compiler=functools.partial(_compile, f"graph{number}_forward", options),
        bw_compiler=functools.partial(_compile_backward, f"graph{number}_backward", options),
        inference_compiler=functools.partial(_compile_inference, f"graph{number}", options, bare),
        decompositions=decompositions(),
        partition_fn=_partition,
        keep_inference_input_mutations=True,
    )


def _partition(joint: torch.fx.GraphModule, *args: Any, **kwargs: Any) -> tuple[torch.fx.GraphModule, torch.fx.GraphModule]:
    """Min-cut, but what was drawn is saved even where a checkpoint wants it computed again: drawing once more with the
    generator's old state is not done here."""
    correct_types(joint.graph)
    for node in joint.graph.nodes:
        if is_random(node):
            # Of several results, those that are used.
            for drawn in (node, *(user for user in node.users if user.target is operator.getitem)):
                drawn.meta.pop("recompute", None)
    return min_cut_rematerialization_partition(joint, *args, **kwargs)


@functools.lru_cache(maxsize=None)
def decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's decompositions of the ops that Toroid has no row for."""
    from torch._decomp import global_decomposition_table

    known = set(_native.op_names())
    table = {}
    for op, rule in global_decomposition_table["post_autograd"].items():
        if isinstance(op, torch._ops.OpOverload):
            name = f"{op.namespace}.{op._schema.name.split('::')[1]}.{op._overloadname}"
            if name not in known and name not in _KEPT:
                table[op] = rule
    return table


# Ops without a row that are better kept whole: random ops, which must be drawn once, and what PyTorch runs natively.
_KEPT = {
    "aten.native_dropout.default",
    "aten.bernoulli.default",
    "aten.uniform.default",
    "aten.normal_functional.default",
    "aten.rand_like.default",
    "aten.randn_like.default",
    "aten.randint_like.default",
}


def _compile(name: str, options: BackendOptions, gm: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    return _compiled(gm, name, options, None)


def _compile_backward(
    name: str, options: BackendOptions, gm: torch.fx.GraphModule, inputs: Sequence[Any]
) -> Callable[..., Any]:
    function = _compiled(gm, name, options, None)

    # Dynamo wraps it once more, and looks for the mark of a boxed function on Python functions alone.
    def run(args: list[Any]) -> list[Any]:
        return function(args)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


def _compile_inference(
    name: str, options: BackendOptions, bare: _Bare, gm: torch.fx.GraphModule, inputs: Sequence[Any]
) -> Callable[..., Any]:
    return _compiled(gm, name, options, _frozen(gm), bare)


def _compiled(
    gm: torch.fx.GraphModule,
    name: str,
    options: BackendOptions,
    constants: dict[Any, torch.Tensor] | None,
    bare: _Bare | None = None,
) -> Callable[..., Any]:
    start = time.perf_counter()
    try:
        function, report = compile_graph(gm, name, options, constants)
    except Error as error:
        raise _pass_through(error) from None
    report.seconds = time.perf_counter() - start
    for listener in getattr(_listeners, "stack", ()):
        listener.append(report)
    _warn(report)
    if bare is not None:
        bare.offer(gm, report)
    return function


def _frozen(gm: torch.fx.GraphModule) -> dict[Any, torch.Tensor] | None:
    """Under torch._dynamo.config.prepare_freezing: the parameters that no call writes to, by placeholder."""
    if not torch._dynamo.config.prepare_freezing:
        return None
    context = torch._guards.TracingContext.try_get()
    if context is None or context.fw_metadata is None or not context.params_flat_unwrap_subclasses:
        return None
    metadata = context.fw_metadata
    returned = {info.base_idx for info in metadata.output_info if info.base_idx is not None}
    placeholders = [node for node in gm.graph.nodes if node.op == "placeholder"]
    constants = {}
    for index, (node, value) in enumerate(zip(placeholders, context.params_flat_unwrap_subclasses)):
        mutated = metadata.input_info[index].mutates_data or metadata.input_info[index].mutates_metadata
        if isinstance(value, torch.Tensor) and not mutated and index not in returned:
            constants[node] = value
    return constants


def _warn(report: GraphReport) -> None:
    for refusal in report.refusals:
        key = (refusal.op, refusal.reason)
        if key in _warned:
            continue
        _warned.add(key)
        warnings.warn(f"toroid has no code for {refusal}; it runs in PyTorch", FallbackWarning, stacklevel=2)
