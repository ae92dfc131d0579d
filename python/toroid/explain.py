"""`toroid.explain(f)(*args)`: what torch.compile(f, backend="toroid") makes of a call: graphs, graph breaks, kernels, and
every op that runs in PyTorch instead, with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

import torch

from . import backend
from .fx_program import GraphReport, Refusal


@dataclass
class Explanation:
    """What a call was made into. `str()` of it is for people."""

    graphs: list[GraphReport] = field(default_factory=list)
    # Why Dynamo cut the program, one line each.
    graph_breaks: list[str] = field(default_factory=list)
    result: Any = None

    @property
    def missing(self) -> list[Refusal]:
        """Every op that PyTorch runs, once, with the place where it first stands."""
        seen: dict[tuple[str, str], Refusal] = {}
        for graph in self.graphs:
            for refusal in graph.refusals:
                seen.setdefault((refusal.op, refusal.reason), refusal)
        return list(seen.values())

    def __str__(self) -> str:
        plural = lambda n, word: f"{n} {word}{'' if n == 1 else 's'}"  # noqa: E731
        breaks, missing = self.graph_breaks, self.missing
        lines = [f"{plural(len(self.graphs), 'graph')}, {plural(len(breaks), 'graph break')}"]
        lines += [f"  graph break: {text}" for text in breaks]
        for graph in self.graphs:
            parts = [plural(graph.ops, "op"), plural(graph.native_segments, "native segment")]
            if graph.torch_segments:
                parts.append(plural(graph.torch_segments, "PyTorch segment"))
            lines.append(f"{graph.name}: {', '.join(parts)}, {graph.seconds:.2f} s")
            lines += [f"  {summary}" for summary in graph.summaries]
        lines.append("every op is native" if not missing else f"{plural(len(missing), 'op')} without native code:")
        lines += [f"  {refusal}" for refusal in missing]
        return "\n".join(lines)


def explain(f: Callable[..., Any], **options: Any) -> Callable[..., Explanation]:
    """Gives a function that calls `f` compiled by Toroid (keyword arguments as of torch.compile: `dynamic`, `options`)
    and says what was compiled. What `f` was compiled to before is compiled anew."""

    def call(*args: Any, **kwargs: Any) -> Explanation:
        made = Explanation()
        torch._dynamo.reset()
        with backend.listening(made.graphs), _graph_breaks(made.graph_breaks):
            made.result = torch.compile(f, backend=backend.toroid, **options)(*args, **kwargs)
        return made

    return call


class _graph_breaks:
    """Collects Dynamo's reasons for graph breaks, one line each."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons

    def __enter__(self) -> None:
        from torch._dynamo.utils import counters

        self.before = dict(counters["graph_break"])

    def __exit__(self, *exception: Any) -> None:
        from torch._dynamo.utils import counters

        for text, count in counters["graph_break"].items():
            if count > self.before.get(text, 0):
                self.reasons.append(text.strip().splitlines()[0])
