"""Cuts an FX graph into segments that Toroid compiles and segments that PyTorch runs, in an order that keeps what the
graph means: values before their uses, writes after earlier reads, random numbers in the order they are drawn."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any, Container

import torch
from torch import fx

from .fx_graph import CONTROL_FLOW
from .fx_symbols import is_symbolic


@dataclass
class Segment:
    """Nodes that run together. `inputs` are values from outside, `outputs` what others or the graph's output use."""

    native: bool
    nodes: list[fx.Node] = field(default_factory=list)
    inputs: list[fx.Node] = field(default_factory=list)
    outputs: list[fx.Node] = field(default_factory=list)


def is_scalar(node: fx.Node) -> bool:
    """Whether a node's value is a number that PyTorch knows as an expression over sizes."""
    value = node.meta.get("val")
    return is_symbolic(value) or isinstance(value, (bool, int, float))


def is_read(node: fx.Node) -> bool:
    """Whether a node reads a number from a tensor."""
    return node.target in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)


def _is_getitem(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is operator.getitem and isinstance(node.args[0], fx.Node)


def _writes(node: fx.Node) -> bool:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.is_mutable
    return isinstance(target, torch._ops.HigherOrderOperator) and target.name() not in CONTROL_FLOW


def is_random(node: fx.Node) -> bool:
    """Whether a node draws random numbers."""
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def cut(graph: fx.Graph, refused: Container[fx.Node], wanted: Container[fx.Node]) -> list[Segment]:
    """Segments in the order they run; `refused` are the nodes that PyTorch must run, `wanted` those whose values leave
    the graph. Even levels are native ones."""
    level: dict[fx.Node, int] = {}
    deepest = 0
    last_random = 0
    written = 0
    for node in graph.nodes:
        if node.op in ("placeholder", "output", "get_attr"):
            continue
        if is_scalar(node) and not is_read(node):
            # Computed between the segments, from the sizes it depends on.
            level[node] = max((level.get(n, 0) for n in node.all_input_nodes), default=0)
            continue
        if _is_getitem(node):
            level[node] = level[node.args[0]]
            continue
        parity = 1 if node in refused else 0
        own = max((level.get(n, 0) for n in node.all_input_nodes), default=0)
        if is_random(node):
            own = max(own, last_random)
        # Behind a write everything is new; before it, everything has been read.
        own = max(own, deepest if _writes(node) else written)
        if own % 2 != parity:
            own += 1
        level[node] = own
        deepest = max(deepest, own)
        if is_random(node):
            last_random = own
        if _writes(node):
            written = max(written, own)
    by_level: dict[int, Segment] = {}
    for node in graph.nodes:
        if node not in level or (is_scalar(node) and not is_read(node)):
            continue
        segment = by_level.setdefault(level[node], Segment(native=level[node] % 2 == 0))
        segment.nodes.append(node)
    segments = [by_level[key] for key in sorted(by_level)]
    for segment in segments:
        _find_edges(segment, wanted)
    return [s for s in segments if s.outputs or any(_writes(node) or not s.native for node in s.nodes)]


def _find_edges(segment: Segment, wanted: Container[fx.Node]) -> None:
    inside = set(segment.nodes)
    seen: set[fx.Node] = set()
    for node in segment.nodes:
        for source in node.all_input_nodes:
            if source not in inside and source not in seen and source.op != "get_attr":
                seen.add(source)
                segment.inputs.append(source)
    for node in segment.nodes:
        # A tuple is taken apart where it is made.
        if isinstance(node.meta.get("val"), (tuple, list)) and all(_is_getitem(user) for user in node.users):
            continue
        if node in wanted or any(user not in inside and user.op != "output" for user in node.users):
            segment.outputs.append(node)


def torch_module(owner: Any, segment: Segment) -> fx.GraphModule:
    """A module that runs a segment's nodes in PyTorch: takes `inputs`, gives the tuple of `outputs`."""
    graph = fx.Graph(owning_module=owner)
    copies: dict[fx.Node, fx.Node] = {}
    for node in segment.inputs:
        copies[node] = graph.placeholder(node.name)
    for node in segment.nodes:
        for source in node.all_input_nodes:
            if source.op == "get_attr" and source not in copies:
                copies[source] = graph.get_attr(str(source.target))
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in segment.outputs))
    return fx.GraphModule(owner, graph)
