"""torch.compile(backend="toroid"), native throughout: control flow, sizes that data decide, complex numbers, function
transforms, autocast, views of one result, optimizers; compared with eager calls."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from backend_testing import NATIVE, check, compare, same
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.func import functional_call, hessian, jacfwd, jacrev, jvp, vjp, vmap

torch.manual_seed(0)
LINEAR = torch.nn.Linear(4, 4)
YES, NO = torch.tensor(True), torch.tensor(False)


def check_all(f, argument_sets, **options):
    """The first arguments compile it, the others run the same program."""
    compiled = check(f, *argument_sets[0], **options)
    options = {key: value for key, value in options.items() if key not in ("dynamic", "native")}
    for args in argument_sets[1:]:
        compare(f, compiled, *args, **options)


# Control flow --------------------------------------------------------------------------------------------------------


def nested_cond(p, q, x):
    return torch.cond(p, lambda x: torch.cond(q, lambda x: x + 1, lambda x: x - 1, (x,)), lambda x: x * 3, (x,))


def closure_cond(p, x):
    y = x.exp()
    return torch.cond(p, lambda x: x + y, lambda x: x * y, (x,)) * 2


CONDS = {
    "values": (lambda p, x: torch.cond(p, lambda x: (x.sin(), x.sum()), lambda x: (x.cos() + 1, x[0, 0] * 2), (x,)), 1),
    "of data": (lambda p, x: torch.cond((x.sum() > 0) ^ p, lambda x: x * 2, lambda x: x - 1, (x,)), 1),
    "parameters": (lambda p, x: torch.cond(p, lambda x: LINEAR(x).relu(), lambda x: x * 2, (x,)) + 1, 1),
    "closure": (closure_cond, 1),
    "nested": (nested_cond, 2),
}


@pytest.mark.parametrize("name", CONDS)
def test_cond(name):
    f, conditions = CONDS[name]
    sets = [[flag] for flag in (YES, NO)] if conditions == 1 else [[a, b] for a in (YES, NO) for b in (YES, NO)]
    with torch.no_grad():
        check_all(f, [[*flags, torch.randn(3, 4)] for flags in sets])


def test_cond_of_a_size():
    f = lambda x: torch.cond(x.shape[0] > 4, lambda x: x.sin(), lambda x: x.cos(), (x,))  # noqa: E731
    check_all(f, [[torch.randn(6, 2)], [torch.randn(3, 2)]], dynamic=True)


def test_gradient_through_cond():
    f = lambda p, x: torch.cond(p, lambda x: x.sin() * 2, lambda x: x.cos() * x, (x,))  # noqa: E731
    check_all(f, [[flag, torch.randn(4, requires_grad=True)] for flag in (YES, NO)], grad=True)


def test_branches_of_different_sizes():
    f = lambda p, x: torch.cond(p, lambda x: x[:2] * 1.0, lambda x: x * 2, (x,))  # noqa: E731
    with torch.no_grad():
        check_all(f, [[YES, torch.randn(4)], [NO, torch.randn(4)]])


def nested_loops(x):
    def outer(i, x):
        _, y = while_loop(lambda j, x: j < 2, lambda j, x: (j + 1, x * 1.1), (torch.tensor(0), x))
        return i + 1, y

    return while_loop(lambda i, x: i < 3, outer, (torch.tensor(0), x))


def test_while_loop():
    count = lambda i, x: while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, LINEAR(x).tanh()), (i, x))  # noqa: E731
    grow = lambda x: while_loop(lambda x: x.sum() < 100, lambda x: (x * 1.5 + 1,), (x,))  # noqa: E731
    with torch.no_grad():
        check_all(count, [[torch.tensor(n), torch.randn(2, 4)] for n in (0, 4, 9)])
        check_all(grow, [[torch.ones(3)], [torch.ones(3) * 50]])
        check(nested_loops, torch.randn(3))


SCANS = {
    "carry and results": lambda c, xs: scan(lambda c, x: (c + x, c * x), c, xs),
    "reverse": lambda c, xs: scan(lambda c, x: (c * 0.5 + x, c.sin()), c, xs, reverse=True),
    "parameters": lambda c, xs: scan(lambda c, x: (LINEAR(c).tanh() + x, c * 1.0), c, xs),
    "cond inside": lambda c, xs: scan(
        lambda c, x: (torch.cond(x.sum() > 0, lambda c, x: c + x, lambda c, x: c - x, (c, x)), c * 2), c, xs
    ),
    "associative": lambda c, xs: associative_scan(lambda a, b: a + b, xs + c, 0, combine_mode="generic"),
    "map": lambda c, xs: torch._higher_order_ops.map(lambda x, y: x * y + 1, xs, c),
}


@pytest.mark.parametrize("name", SCANS)
def test_scan(name):
    with torch.no_grad():
        check(SCANS[name], torch.randn(4), torch.randn(5, 4), rtol=1e-5, atol=1e-5)


def test_gradient_through_scan():
    f = lambda c, xs: scan(lambda c, x: (c.tanh() + x, c * x), c, xs)  # noqa: E731
    check(f, torch.randn(4, requires_grad=True), torch.randn(5, 4, requires_grad=True), grad=True, rtol=1e-5, atol=1e-5)


# Sizes that data decide ----------------------------------------------------------------------------------------------


def parts(x, n):
    a, b = n.tolist()
    torch._check(a >= 0)
    torch._check(b >= 0)
    torch._check(a + b == x.size(0))
    p, q = torch.split(x, [a, b])
    return p * 2, q + 1


def taken(x, n):
    k = n.item()
    torch._check(k >= 0)
    torch._check(k <= x.size(0))
    return x[:k].sum(), x.narrow(0, 0, k) * 2, torch.zeros(k) + x.sum(), k * 2


def positive(x):
    found = (x * 2)[x > 0]
    return found.exp() + 1, found.sum(), torch.ones_like(found).cumsum(0), found.size(0) * 2 + x.size(0)


NUMBERS = [torch.randn(10), -torch.ones(10), torch.ones(10)]
DECIDED = {
    "boolean index": (positive, [[x] for x in NUMBERS]),
    "nonzero": (lambda x: (torch.nonzero(x > 0) * 2, torch.argwhere(x), torch.where(x > 0)), [[x] for x in NUMBERS]),
    "masked_select": (lambda x: torch.masked_select(x, x > 0).softmax(0), [[x] for x in NUMBERS]),
    "cat": (lambda x: torch.cat([x[x > 0], x[x < 0]]) + 1, [[x] for x in NUMBERS]),
    "rows": (lambda x, w: x[x.sum(1) > 0] @ w, [[torch.randn(8, 4), torch.randn(4, 3)] for _ in range(3)]),
    "unique": (
        lambda x: (torch.unique(x), *torch.unique(x, return_inverse=True, return_counts=True)),
        [[torch.randint(0, 5, (10,))], [torch.randint(0, 9, (10,))]],
    ),
    "repeat_interleave": (torch.repeat_interleave, [[torch.randn(3), torch.tensor(n)] for n in ([1, 0, 3], [1, 2, 1])]),
    "item": (taken, [[torch.randn(10), torch.tensor(n)] for n in (3, 0, 10)]),
    "tolist": (parts, [[torch.randn(7), torch.tensor(n)] for n in ([3, 4], [7, 0])]),
    "item of a float": (lambda x, s: x * s.item() + 1, [[torch.randn(4), torch.tensor(s)] for s in (2.5, float("inf"))]),
    "item of a bool": (lambda x, s: x * s.item(), [[torch.randn(4), flag] for flag in (YES, NO)]),
}


@pytest.mark.parametrize("name", DECIDED)
def test_sizes_that_data_decide(name):
    f, argument_sets = DECIDED[name]
    with torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True), torch.no_grad():
        check_all(f, argument_sets)


@torch.library.custom_op("toroid_test::outer_square", mutates_args=())
def outer_square(x: torch.Tensor) -> torch.Tensor:
    return x[:, None] * x


@outer_square.register_fake
def _(x):
    return x.new_empty(x.shape[0], x.shape[0])


def test_sizes_that_data_decide_beside_what_pytorch_runs():
    f = lambda x: (outer_square(x[x > 0] * 2) + 1, x + 1)  # noqa: E731
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True), torch.no_grad():
        with pytest.warns(UserWarning, match="outer_square"):
            check_all(f, [[torch.randn(8)], [torch.randn(8)]], native=False)


# Complex numbers -----------------------------------------------------------------------------------------------------


def numbers(*sizes, dtype=torch.complex64):
    return torch.randn(*sizes, dtype=dtype)


COMPLEX = {
    "arithmetic": (lambda a, b: (a * b + a.conj(), a / b, -a, a - 1j), lambda: (numbers(4), numbers(4))),
    "parts": (lambda a: (a.abs(), a.angle(), a.real, a.imag * 2), lambda: (numbers(4),)),
    "functions": (lambda a: (a.exp(), a.sin(), a.sqrt(), a.log(), a**2), lambda: (numbers(4),)),
    "product": (lambda a, b: a @ b, lambda: (numbers(4, 3), numbers(3, 2))),
    "sums": (lambda a: (a.sum(0), a.mean()), lambda: (numbers(3, 4),)),
    "as real": (lambda a: torch.view_as_real(a) * 2, lambda: (numbers(4),)),
    "polar": (lambda a, b: torch.polar(a.abs(), b) * 2, lambda: (torch.randn(4), torch.randn(4))),
    "fft": (lambda a: (torch.fft.fft(a).abs(), torch.fft.irfft(torch.fft.rfft(a) * 2)), lambda: (torch.randn(16),)),
    "double": (lambda a: a * 2 + a.abs(), lambda: (numbers(3, dtype=torch.complex128),)),
    "rotary": (
        lambda x, f: torch.view_as_real(torch.view_as_complex(x.view(2, 4, 2)) * f).flatten(1),
        lambda: (torch.randn(2, 8), numbers(4)),
    ),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex(name):
    f, arguments = COMPLEX[name]
    check(f, *arguments(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "view", [lambda z: z.conj(), lambda z: z.conj().imag, lambda z: z.t().conj()], ids=["conj", "neg", "transposed"]
)
def test_views_whose_bytes_are_not_their_values(view):
    x = view(numbers(3, 4))
    assert x.is_conj() or x.is_neg()
    torch._dynamo.reset()
    same(torch.compile(lambda a: a * 2 + 1, backend="toroid", options=NATIVE)(x), x * 2 + 1)
    result = torch.compile(lambda a: (view(a * 2), view(a)), backend="toroid", options=NATIVE)
    z = numbers(3, 4)
    for got, want in zip(result(z), (view(z * 2), view(z))):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    "f",
    [lambda a: (a * a.conj()).real.sum(), lambda a: (a.exp() * a).real.sum(), lambda a: (a.conj().imag * 2).sin().sum()],
    ids=["square", "exp", "neg"],
)
def test_complex_gradients(f):
    check(f, numbers(3, 3).requires_grad_(), grad=True, rtol=1e-5, atol=1e-5)


# Transforms, autocast, views -----------------------------------------------------------------------------------------


def energy(x):
    return (x.sin() * x).sum()


def loss(parameters, x, y):
    return F.mse_loss(functional_call(LINEAR, parameters, (x,)), y)


def sample_gradients(x, y):
    detached = {name: p.detach() for name, p in LINEAR.named_parameters()}
    return vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(detached, x, y)


TRANSFORMS = {
    "grad": (torch.func.grad(energy), (5,)),
    "vmap of grad": (vmap(torch.func.grad(energy)), (3, 5)),
    "grad of vmap": (lambda x: torch.func.grad(lambda y: vmap(torch.sin)(y).sum())(x), (4, 3)),
    "jacrev": (jacrev(lambda v: v.sin() * v.sum()), (5,)),
    "jacfwd": (jacfwd(lambda v: v.sin() * v.sum()), (5,)),
    "hessian": (hessian(energy), (5,)),
    "vjp": (lambda x: vjp(energy, x)[1](torch.tensor(2.0)), (5,)),
    "jvp": (lambda x: jvp(lambda v: v.exp(), (x,), (x * 2,)), (5,)),
    "vmap": (vmap(lambda x: (x.softmax(0) @ x).sum()), (3, 4, 4)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    f, sizes = TRANSFORMS[name]
    check(f, torch.randn(sizes), rtol=1e-5, atol=1e-5)


def test_gradients_of_each_sample():
    check(sample_gradients, torch.randn(6, 4), torch.randn(6, 4))


def test_autocast_of_a_norm_in_training():
    norm = torch.nn.LayerNorm(16)

    def f(x, w):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return norm(x @ w).float().exp()

    check(f, torch.randn(4, 8, requires_grad=True), torch.randn(8, 16), grad=True, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_around_the_call(dtype):
    f = lambda x, w: ((x @ w) + 1).softmax(-1)  # noqa: E731
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", options=NATIVE)
    x, w = torch.randn(4, 8), torch.randn(8, 3)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        same(compiled(x, w), f(x, w), rtol=2e-2, atol=2e-2)
    same(compiled(x, w), f(x, w), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_views_of_one_result_share_memory(dynamic, grad):
    def f(x):
        y = x.exp()
        return y.view(-1), y.t(), y[1:], y[:, 1], y.split(1)[0], y.unbind()[1]

    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", options=NATIVE, fullgraph=True, dynamic=dynamic)
    for rows in (3, 5) if dynamic else (3,):
        x = torch.randn(rows, 4, requires_grad=grad)
        out = compiled(x)
        same([t.detach() for t in out], [t.detach() for t in f(x)])
        assert len({t.untyped_storage().data_ptr() for t in out}) == 1


# Optimizers ----------------------------------------------------------------------------------------------------------

O = torch.optim
OPTIMIZERS = {
    "SGD": lambda p: O.SGD(p, lr=1e-2, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "Adam": lambda p: O.Adam(p, lr=1e-2, amsgrad=True),
    "Adam with a tensor as rate": lambda p: O.Adam(p, lr=torch.tensor(1e-2)),
    "AdamW": lambda p: O.AdamW(p, lr=1e-2),
    "AdamW one by one": lambda p: O.AdamW(p, lr=1e-2, foreach=False),
    "NAdam": O.NAdam, "RAdam": O.RAdam, "Adagrad": O.Adagrad, "Adadelta": O.Adadelta, "Adamax": O.Adamax, "Rprop": O.Rprop,
    "RMSprop": lambda p: O.RMSprop(p, momentum=0.5, centered=True),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_steps_are_native(name):
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    twin = copy.deepcopy(model)
    eager, compiled = OPTIMIZERS[name](model.parameters()), OPTIMIZERS[name](twin.parameters())
    torch._dynamo.reset()
    step = torch.compile(compiled.step, backend="toroid", options=NATIVE)
    for _ in range(4):
        for p, q in zip(model.parameters(), twin.parameters()):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        eager.step()
        step()
    torch.testing.assert_close(twin.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
