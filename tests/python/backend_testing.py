"""What the tests of torch.compile(backend="toroid") share: calls compared with eager ones."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch.utils import _pytree as pytree

import toroid.backend

# An installed package is found by its entry point; a build folder has none.
if "toroid" not in torch._dynamo.list_backends():
    torch._dynamo.register_backend(toroid.backend.toroid, name="toroid")

NATIVE = {"fullgraph_native": True}


def copy_of(x: Any) -> Any:
    """A tensor of the same layout, contents and requires_grad, that shares no memory."""
    if not isinstance(x, torch.Tensor):
        return x
    base = torch.empty(0, dtype=x.dtype).set_(x.detach().untyped_storage().clone(), x.storage_offset(), x.shape, x.stride())
    return base.requires_grad_(x.requires_grad)


def flat(tree: Any) -> list[Any]:
    return pytree.tree_leaves(tree)


def same(got: Any, want: Any, **tolerances: float) -> None:
    """Structure, values, dtypes and strides."""
    got_leaves, got_spec = pytree.tree_flatten(got)
    want_leaves, want_spec = pytree.tree_flatten(want)
    assert got_spec == want_spec
    for g, w in zip(got_leaves, want_leaves):
        if isinstance(w, torch.Tensor):
            assert isinstance(g, torch.Tensor)
            torch.testing.assert_close(g, w, equal_nan=True, check_stride=False, **tolerances)
            if w.numel() > 0:
                sizes = list(zip(w.shape, g.stride(), w.stride()))
                assert all(a == b for size, a, b in sizes if size > 1), f"strides {g.stride()}, eager's {w.stride()}"
        else:
            assert type(g) is type(w) and g == w


def check(
    f: Callable[..., Any], *args: Any, dynamic: bool | None = None, native: bool = True, grad: bool = False, **kwargs: Any
) -> Callable[..., Any]:
    """Calls `f` in eager mode and compiled with the same arguments: results and arguments must be equal after it, and
    gradients with `grad`. Gives the compiled function."""
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", fullgraph=True, dynamic=dynamic, options=NATIVE if native else {})
    compare(f, compiled, *args, grad=grad, **kwargs)
    return compiled


def compare(f: Callable[..., Any], compiled: Callable[..., Any], *args: Any, grad: bool = False, **tolerances: float) -> None:
    sides = []
    for function in (f, compiled):
        own = pytree.tree_map(copy_of, args)
        with torch.set_grad_enabled(grad):
            out = function(*own)
        grads = []
        if grad:
            torch.manual_seed(0)
            wanted = [x for x in flat(out) if isinstance(x, torch.Tensor) and x.requires_grad]
            sum((x * torch.linspace(0.5, 1.5, x.numel()).reshape(x.shape).to(x.dtype)).sum() for x in wanted).backward()
            grads = [x.grad for x in flat(own) if isinstance(x, torch.Tensor) and x.requires_grad]
        sides.append((out, own, grads))
    same(sides[1], sides[0], **tolerances)
