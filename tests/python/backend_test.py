"""torch.compile(backend="toroid"): calls, results, writes, sizes; compared with eager calls."""

from __future__ import annotations

import importlib
import pathlib
import sys
import threading
import tomllib

import pytest
import torch
import torch.nn.functional as F
from backend_testing import NATIVE, check, compare, same

import toroid
import toroid.backend


def compile_native(f, **options):
    torch._dynamo.reset()
    return torch.compile(f, backend="toroid", fullgraph=True, options={**NATIVE, **options})


# Calls ---------------------------------------------------------------------------------------------------------------


def test_entry_point_names_the_backend():
    project = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, _, name = project["project"]["entry-points"]["torch_dynamo_backends"]["toroid"].partition(":")
    assert getattr(importlib.import_module(module), name) is toroid.backend.toroid


def test_mlp():
    mlp = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    check(mlp, torch.randn(3, 16))


def test_containers_and_constants():
    def f(pair, table, scale=2.0, flag=True, nothing=None):
        x, (y, z) = pair
        return {"a": x + y if flag else x, "b": [z * scale, 3, "text"], "c": nothing, "d": table["k"].sum()}

    check(f, (torch.randn(3), (torch.randn(3), torch.randn(2))), {"k": torch.randn(2, 2)})


def test_same_tensor_twice_and_unused():
    x = torch.randn(4)
    compiled = compile_native(lambda a, b, c: a + b)
    same(compiled(x, x, torch.randn(7)), x + x)


def test_input_returned_as_it_is():
    x = torch.randn(3, 4)
    compiled = compile_native(lambda a: (a, a + 1))
    assert compiled(x)[0] is x


def test_no_inputs():
    check(lambda: torch.arange(5) * 2 + 1)


def test_zero_dim_and_empty():
    check(lambda a, b: (a + b, a.sum(), b[:0] * 2), torch.tensor(2.5), torch.randn(3, 2))


def test_python_numbers():
    def f(x, n, s):
        return x * n + s, n + 1

    check(f, torch.randn(4), 3, 0.5)


def test_grad_mode_does_not_change_values():
    x = torch.randn(8, requires_grad=True)
    compiled = compile_native(lambda a: (a.sin() * a).sum())
    with torch.no_grad():
        without = compiled(x)
    same(compiled(x).detach(), without)


def test_threads():
    compiled = compile_native(lambda a: torch.softmax(a * 2, -1))
    x = torch.randn(64, 64)
    want = compiled(x)
    wrong = []

    def work():
        for _ in range(50):
            if not torch.equal(compiled(x), want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Results -------------------------------------------------------------------------------------------------------------


def test_views_of_inputs_share_memory():
    x = torch.randn(3, 4)
    compiled = compile_native(lambda a: (a.t(), a[1:], a.view(-1), a.sin()))
    out = compiled(x)
    for view in out[:3]:
        assert view.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    same(out[3], x.sin())


def test_views_of_results_share_memory():
    compiled = compile_native(lambda a: (lambda y: (y, y.t(), y[0]))(a.exp()))
    out = compiled(torch.randn(3, 4))
    assert len({t.untyped_storage().data_ptr() for t in out}) == 1
    out[0].zero_()
    assert out[1].abs().sum() == 0


def test_same_result_twice():
    compiled = compile_native(lambda a: (lambda y: (y, y))(a + 1))
    one, two = compiled(torch.randn(3))
    one.add_(1)
    assert torch.equal(one, two)


def test_strides_of_results():
    x = torch.randn(2, 3, 4, 5)
    check(lambda a: (a.permute(0, 2, 3, 1) * 2, a.transpose(1, 2).sin(), a.contiguous() + 1), x)
    check(lambda a: (a + 1, F.relu(a)), x.to(memory_format=torch.channels_last))
    check(lambda a: a.sum(1, keepdim=True).expand(2, 3, 4, 5) * a, x)


def test_result_can_be_resized():
    out = compile_native(lambda a: a + 1)(torch.randn(4))
    out.resize_(100)
    assert out.shape == (100,)


# Arguments -----------------------------------------------------------------------------------------------------------

_LAYOUTS = {
    "dense": lambda: torch.randn(6, 8),
    "transposed": lambda: torch.randn(8, 6).t(),
    "strided": lambda: torch.randn(12, 16)[::2, ::2],
    "offset": lambda: torch.randn(49)[1:].view(6, 8),
    "expanded": lambda: torch.randn(1, 8).expand(6, 8),
    "one": lambda: torch.randn(1, 1),
    "double": lambda: torch.randn(6, 8, dtype=torch.float64),
    "integer": lambda: torch.arange(48).view(6, 8),
}


@pytest.mark.parametrize("first", _LAYOUTS)
def test_layouts(first):
    for second in _LAYOUTS:
        check(lambda a, b: a * b + 1, _LAYOUTS[first](), _LAYOUTS[second]())


def test_another_storage_offset():
    compiled = compile_native(lambda a: a * 2)
    memory = torch.randn(100)
    for offset in (0, 1, 3, 16):
        x = memory[offset : offset + 32]
        same(compiled(x), x * 2)


def test_writes_to_arguments():
    def f(a, b):
        before = a.sum()
        a.add_(1)
        a[:, 1:3] = b
        a.view(-1)[0] = 5
        return before, a * 2

    check(f, torch.randn(3, 4), torch.randn(3, 2))


def test_write_to_overlapping_parts():
    def f(a):
        a[:, 2:11] = a[:, 1:10] + 2
        return a.sum()

    check(f, torch.randn(3, 12))


def test_write_through_strided_argument():
    check(lambda a: a.mul_(3), torch.randn(8, 6).t())
    check(lambda a: a.mul_(3), torch.randn(12, 16)[::2, ::2])


def test_reads_before_the_write_see_the_old_value():
    def f(a, b):
        y = a * b
        a.copy_(b)
        return y, a + y

    check(f, torch.randn(5), torch.randn(5))


def test_arguments_are_not_written_otherwise():
    x = torch.randn(32, 32)
    before = x.clone()
    compile_native(lambda a: torch.softmax(a.relu() + 1, 0))(x)
    assert torch.equal(x, before)


# State ---------------------------------------------------------------------------------------------------------------


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("cache", torch.zeros(4, 3))

    def forward(self, x, at):
        self.count += 1
        self.cache[at] = x
        return self.cache.sum(0) * self.count


def test_buffers_keep_their_values():
    eager, model = Counter(), Counter()
    compiled = compile_native(model)
    for step in range(4):
        x = torch.randn(3)
        with torch.no_grad():
            same(compiled(x, step % 2), eager(x, step % 2))
    same(model.state_dict(), eager.state_dict())


def test_changed_weights_are_seen():
    linear = torch.nn.Linear(4, 4)
    compiled = compile_native(linear)
    x = torch.randn(2, 4)
    with torch.no_grad():
        compiled(x)
        linear.weight.mul_(2)
        same(compiled(x), linear(x))
        linear.weight = torch.nn.Parameter(torch.randn(4, 4))
        same(compiled(x), linear(x))


def test_frozen_parameters():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()).eval()
    x = torch.randn(1, 3, 9, 9)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(prepare_freezing=True), torch.no_grad():
        compiled = torch.compile(model, backend="toroid", options=NATIVE)
        torch.testing.assert_close(compiled(x), model(x))
        x = torch.randn(1, 3, 9, 9)
        torch.testing.assert_close(compiled(x), model(x))


# Sizes ---------------------------------------------------------------------------------------------------------------


def test_one_graph_for_many_sizes():
    def f(a, b):
        return (a @ b).softmax(-1), a.sum(0) * a.size(0), a.reshape(-1, 2)

    counter = torch._dynamo.testing.CompileCounterWithBackend("toroid")
    torch._dynamo.reset()
    compiled = torch.compile(f, backend=counter, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for rows, inner in ((4, 6), (2, 8), (33, 20), (7, 6)):
            # Sums of many rows, times their number: what cancels shows.
            compare(f, compiled, torch.randn(rows, inner), torch.randn(inner, 5), rtol=1e-5, atol=1e-4)
    assert counter.frame_count == 1


def test_sizes_as_values():
    def f(x, n):
        return x * n, x / x.size(0), torch.arange(x.size(0)) + n, torch.full((n, 2), n), n * 2 + x.size(1), x[: n // 2]

    compiled = check(f, torch.randn(6, 4), 4, dynamic=True)
    compare(f, compiled, torch.randn(9, 3), 7)


def test_related_sizes():
    def f(x, y):
        return torch.cat([x, y])[1:] + torch.cat([y, x])[:-1], x.view(-1, 2) * 2

    compiled = check(f, torch.randn(4), torch.randn(5), dynamic=True)
    compare(f, compiled, torch.randn(10), torch.randn(11))


def test_symbolic_strides_and_views():
    def f(x):
        y = x.transpose(0, 1)
        return y.contiguous(), y * 2, y.reshape(-1), x[1:, ::2]

    compiled = check(f, torch.randn(4, 6), dynamic=True)
    compare(f, compiled, torch.randn(3, 9))


def test_number_read_from_a_tensor():
    def f(x, n):
        k = n.item()
        torch._check(k >= 1)
        return x * k + 1

    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        check(f, torch.randn(4), torch.tensor(3))


def test_size_read_from_a_tensor():
    def f(x, n):
        k = n.item()
        torch._check(k >= 1)
        torch._check(k <= 100)
        y = x.sin()
        return torch.zeros(k) + y.sum(), k * 2, y

    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        check(f, torch.randn(4), torch.tensor(3))


def test_results_whose_size_depends_on_values():
    def f(x):
        found = (x * 2)[x > 0]
        return found.exp() + 1, found.sum()

    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True), torch.no_grad():
        compiled = torch.compile(f, backend="toroid", fullgraph=True, options=NATIVE)
        for x in (torch.randn(10), -torch.ones(10), torch.ones(10)):
            same(compiled(x), f(x))


# Dynamo --------------------------------------------------------------------------------------------------------------


def test_graph_breaks():
    def f(x):
        y = x.sin()
        torch._dynamo.graph_break()
        return y.cos() + 1

    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", options=NATIVE)
    with torch.no_grad():
        compare(f, compiled, torch.randn(4))


def test_recompiles_and_reset():
    compiled = compile_native(lambda x: x * 2)
    for x in (torch.randn(3), torch.randn(4, 5), torch.arange(6), torch.randn(2).bool()):
        same(compiled(x), x * 2)
    torch.compiler.reset()
    same(compiled(torch.ones(3)), torch.full((3,), 2.0))


def test_autocast():
    def f(x, w):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (x @ w).float() + 1

    check(f, torch.randn(4, 8), torch.randn(8, 3), rtol=2e-2, atol=2e-2)


def test_function_transforms():
    def f(x):
        return (x.sin() * x).sum()

    x = torch.randn(5)
    check(torch.func.grad(f), x)
    check(torch.func.vmap(torch.func.grad(f)), torch.randn(3, 5))
    check(torch.func.jacrev(lambda v: v.sin() * v.sum()), x)
    check(torch.func.hessian(f), x)


# Options and refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"mode": "fast"}, "no mode `fast`"),
        ({"options": {"fullgraph": True}}, "did you mean `fullgraph_native`"),
        ({"options": {"threads": "two"}}, "takes int"),
    ],
)
def test_wrong_options(arguments, text):
    torch._dynamo.reset()
    with pytest.raises(Exception, match=text):
        torch.compile(lambda x: x + 1, backend="toroid", **arguments)(torch.ones(2))


@torch.library.custom_op("toroid_test::foreign", mutates_args=())
def foreign(x: torch.Tensor) -> torch.Tensor:
    """An op that no row of Toroid's will ever know."""
    return x * 3


@foreign.register_fake
def _(x):
    return torch.empty_like(x)


def test_missing_op_is_an_error_where_asked():
    torch._dynamo.reset()

    def f(x):
        return foreign(x.abs()) + 1

    compiled = torch.compile(f, backend="toroid", options=NATIVE)
    with pytest.raises(toroid.UnsupportedError) as caught, torch.no_grad():
        compiled(torch.randn(3, 3))
    assert any("foreign" in op.op for op in caught.value.ops)
    assert any("backend_test.py" in op.place for op in caught.value.ops)


def test_missing_op_runs_in_pytorch_and_is_named_once():
    torch._dynamo.reset()

    def f(x):
        y = (x @ x.t()).sin()
        return foreign(y + y.t()).cumsum(0) * 2 + x.sum(), y

    compiled = torch.compile(f, backend="toroid")
    x = torch.randn(3, 3)
    with pytest.warns(toroid.backend.FallbackWarning, match="foreign") as seen, torch.no_grad():
        same(compiled(x), f(x), rtol=1e-4, atol=1e-4)
    assert len([w for w in seen if "foreign" in str(w.message)]) == 1


def test_custom_op_runs_in_pytorch():
    @torch.library.custom_op("toroid_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @twice.register_fake
    def _(x):
        return torch.empty_like(x)

    def f(x):
        return twice(x.sin()).cos() + twice(x)

    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", fullgraph=True)
    x = torch.randn(4)
    with pytest.warns(toroid.backend.FallbackWarning, match="twice"), torch.no_grad():
        same(compiled(x), f(x))


def test_custom_op_that_writes():
    @torch.library.custom_op("toroid_test::bump", mutates_args=("x",))
    def bump(x: torch.Tensor) -> None:
        x.add_(1)

    def f(x):
        y = x * 2
        bump(y)
        bump(x)
        return y + x

    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", fullgraph=True)
    with pytest.warns(toroid.backend.FallbackWarning), torch.no_grad():
        compare(f, compiled, torch.randn(4))


def test_explain():
    def f(x):
        y = x.sin() + 1
        torch._dynamo.graph_break()
        return foreign(y).abs()

    with torch.no_grad(), pytest.warns(toroid.backend.FallbackWarning):
        told = toroid.explain(f)(torch.randn(3, 3))
    assert len(told.graphs) == 2 and len(told.graph_breaks) == 1
    assert any("foreign" in refusal.op for refusal in told.missing)
    assert "backend_test.py" in str(told)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
