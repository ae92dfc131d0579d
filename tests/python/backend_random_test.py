"""torch.compile(backend="toroid"): random numbers follow torch.manual_seed, agree in forward and backward, and have the
distributions that their names say. The numbers themselves are Toroid's own, not eager's."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from backend_testing import NATIVE
from torch.utils.checkpoint import checkpoint


def compile_native(f, **options):
    torch._dynamo.reset()
    return torch.compile(f, backend="toroid", fullgraph=True, options={**NATIVE, **options})


# name -> (function of ones, mean, standard deviation)
DRAWS = {
    "dropout": (lambda x: F.dropout(x, 0.25), 1, 3**-0.5),
    "dropout2d": (lambda x: F.dropout2d(x.view(40, 50, 5, 2), 0.25).view(-1), 1, 3**-0.5),
    "alpha_dropout": (lambda x: F.alpha_dropout(x - 1, 0.25, training=True), 0, 0.66),
    "rand": (lambda x: x * torch.rand(x.shape), 0.5, 12**-0.5),
    "rand_like": (lambda x: torch.rand_like(x), 0.5, 12**-0.5),
    "randn": (lambda x: x * torch.randn(x.shape), 0, 1),
    "randint": (lambda x: x * torch.randint(2, 12, x.shape), 6.5, 8.25**0.5),
    "bernoulli": (lambda x: torch.bernoulli(x * 0.3), 0.3, 0.21**0.5),
    "bernoulli_": (lambda x: torch.empty_like(x).bernoulli_(0.3), 0.3, 0.21**0.5),
    "uniform_": (lambda x: torch.empty_like(x).uniform_(1, 3), 2, 3**-0.5),
    "normal_": (lambda x: torch.empty_like(x).normal_(5, 2), 5, 2),
    "normal": (lambda x: torch.normal(x * 5, x * 2), 5, 2),
    "exponential_": (lambda x: torch.empty_like(x).exponential_(2), 0.5, 0.5),
    "geometric_": (lambda x: torch.empty_like(x).geometric_(0.5), 2, 2**0.5),
    "randperm": (lambda x: x * torch.randperm(x.numel()), 9999.5, 5773.5),
    "multinomial": (lambda x: torch.multinomial(x[:10], 20000, replacement=True) * x, 4.5, 8.25**0.5),
    "poisson": (lambda x: torch.poisson(x * 3.5), 3.5, 3.5**0.5),
    "gamma": (lambda x: torch._standard_gamma(x * 2.5), 2.5, 2.5**0.5),
    "complex": (lambda x: torch.view_as_real(torch.randn(10000, dtype=torch.complex64)).view(-1) * x, 0, 0.5**0.5),
    "rrelu": (lambda x: F.rrelu(-x, 0.1, 0.3, training=True), -0.2, 0.2 * 12**-0.5),
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", DRAWS)
def test_draws(name, dynamic):
    f, mean, deviation = DRAWS[name]
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", fullgraph=True, dynamic=dynamic, options=NATIVE)
    x = torch.ones(20000)
    torch.manual_seed(7)
    first, second = compiled(x), compiled(x)
    torch.manual_seed(7)
    assert torch.equal(compiled(x), first)
    assert not torch.equal(first, second)
    for drawn in (first.double(), second.double()):
        # A mean of 20,000 strays by 0.7 % of the deviation; whole channels of ten by three times as much.
        assert abs(drawn.mean() - mean) < 0.1 * deviation
        assert abs(drawn.std() - deviation) < 0.1 * deviation


# Draws by rejection have several branches, which moments alone tell apart badly.
SHAPES = {
    "poisson 0.3": lambda x: torch.poisson(x * 0.3),
    "poisson 9.5": lambda x: torch.poisson(x * 9.5),
    "poisson 10": lambda x: torch.poisson(x * 10),
    "poisson 300": lambda x: torch.poisson(x * 300),
    "binomial 5, 0.1": lambda x: torch.binomial(x * 5, x * 0.1),
    "binomial 15, 0.9": lambda x: torch.binomial(x * 15, x * 0.9),
    "binomial 40, 0.4": lambda x: torch.binomial(x * 40, x * 0.4),
    "binomial 900, 0.8": lambda x: torch.binomial(x * 900, x * 0.8),
    "gamma 0.2": lambda x: torch._standard_gamma(x * 0.2),
    "gamma 1": lambda x: torch._standard_gamma(x),
    "gamma 50": lambda x: torch._standard_gamma(x * 50),
    "gamma 3, f64": lambda x: torch._standard_gamma(x.double() * 3),
    "dirichlet": lambda x: torch._sample_dirichlet(x.view(-1, 4)).view(-1),
    "poisson 40, bf16": lambda x: torch.poisson(x.bfloat16() * 40),
}


@pytest.mark.parametrize("name", SHAPES)
def test_distributions_are_eagers(name):
    f, n = SHAPES[name], 40000
    torch.manual_seed(11)
    ours, eager = compile_native(f)(torch.ones(n)), f(torch.ones(n))
    assert ours.dtype == eager.dtype
    # Kolmogorov and Smirnov: the distance of two samples' distribution functions is above 1.95 sqrt(2 / n) in one case
    # of a thousand.
    places = torch.cat([ours, eager]).double().unique()
    parts = [torch.searchsorted(s.double().sort().values, places, right=True) / n for s in (ours, eager)]
    assert (parts[0] - parts[1]).abs().max() < 1.95 * (2 / n) ** 0.5


def test_ends_of_distributions():
    compiled = compile_native(
        lambda n, p: (torch.binomial(n, p), torch.poisson(n), torch._standard_gamma(n), torch.poisson(-n))
    )
    n, p = torch.tensor([0.0, 7, 7, 7]), torch.tensor([0.5, 0, 1, torch.nan])
    binomial, poisson, gamma, bad = compiled(n, p)
    assert torch.equal(binomial[:3], torch.tensor([0.0, 0, 7])) and binomial[3].isnan()
    assert poisson[0] == 0 and 0 <= gamma[0] < 1e-37 and bad[1:].isnan().all()


# y = x * g(numbers), so x's gradient times x is y where both directions saw the same numbers.
PRODUCTS = {
    "dropout": lambda x: F.dropout(x * 2, 0.25),
    "dropout in place": lambda x: F.dropout(x * 2, 0.25, inplace=True),
    "rand": lambda x: x * (torch.rand(x.shape).exp().sin() + 1),
    "rand_like": lambda x: x * (torch.rand_like(x).exp().sin() + 1),
    "uniform_": lambda x: x * (torch.empty_like(x).uniform_().exp() + 1),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full_like(x, 0.3)).exp(),
    "randint": lambda x: x * torch.randint(0, 9, x.shape).float().exp(),
    "randperm": lambda x: x * torch.randperm(x.numel()).float().sqrt(),
    "checkpointed dropout": lambda x: checkpoint(lambda y: F.dropout(y, 0.5).mul(2), x, use_reentrant=False),
    "checkpointed rand": lambda x: checkpoint(lambda y: y * torch.rand_like(y).exp(), x, use_reentrant=False),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_forward_and_backward_see_the_same_numbers(name):
    compiled = compile_native(PRODUCTS[name])
    x = torch.linspace(0.5, 1.5, 2000).requires_grad_()
    y = compiled(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), y.detach(), rtol=1e-4, atol=1e-5)


def test_any_number_of_threads_draws_the_same():
    def f(x):
        return F.dropout(x, 0.3) + torch.randn(x.shape), torch.rand(x.shape), torch.randperm(100000)

    drawn = []
    for threads in (1, 2):
        torch.manual_seed(1)
        drawn.append(compile_native(f, threads=threads)(torch.ones(300000)))
    assert all(torch.equal(a, b) for a, b in zip(*drawn))


def test_two_draws_of_one_call_differ():
    a, b, empty = compile_native(lambda: (torch.rand(64), torch.rand(64), torch.rand(0, 3)))()
    assert not torch.equal(a, b) and empty.shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    uniform, normal = compile_native(lambda: (torch.rand(20000, dtype=dtype), torch.randn(20000, dtype=dtype)))()
    assert uniform.dtype == normal.dtype == dtype
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.double().mean() - 0.5) < 0.02
    assert abs(normal.double().mean()) < 0.05 and abs(normal.double().std() - 1) < 0.05


def test_wide_ranges_of_integers():
    drawn = compile_native(lambda: torch.randint(-(2**40), 2**40, (20000,)))()
    assert drawn.min() < -(2**39) and drawn.max() > 2**39 and drawn.abs().max() <= 2**40


@pytest.mark.parametrize("model", [torch.nn.Dropout(0.5).eval(), torch.nn.Dropout(0.0)])
def test_idle_dropout_draws_nothing(model):
    compiled = compile_native(lambda x: model(x) + 1)
    before = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(compiled(torch.ones(8)), torch.full((8,), 2.0))
    assert torch.equal(torch.get_rng_state(), before)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
