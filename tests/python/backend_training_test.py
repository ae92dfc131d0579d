"""torch.compile(backend="toroid"): gradients, loss curves over 20 steps and compiled optimizer steps equal eager's."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from backend_testing import NATIVE, compare
from torch import nn

import toroid.backend


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (
            t.view(batch, length, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(width, 2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    def __init__(self, words=33, width=32, length=16):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.block, self.norm = Block(width, 2), nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x):
        return self.head(self.norm(self.block(self.words(x) + self.places(torch.arange(x.size(1))))))


def mlp():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))


def convolutions():
    # A bias in front of a batch norm has no gradient but rounding errors, which Adam would take for one.
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 4 * 4, 4),
    )  # fmt: skip


MODELS = {
    "mlp": (mlp, lambda: (torch.randn(32, 16), torch.randint(0, 4, (32,)))),
    "gpt": (Gpt, lambda: (torch.randint(0, 33, (4, 16)), torch.randint(0, 33, (4 * 16,)))),
    "convolutions": (convolutions, lambda: (torch.randn(4, 3, 16, 16), torch.randint(0, 4, (4,)))),
}


@pytest.mark.parametrize("name", MODELS)
def test_loss_curve(name):
    torch.manual_seed(0)
    make, data = MODELS[name]
    model = make()
    twin = copy.deepcopy(model)
    x, y = data()

    def loss(model, x, y):
        out = model(x)
        return F.cross_entropy(out.reshape(-1, out.shape[-1]), y)

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="toroid", options=NATIVE)
    curves, gradients = [], []
    for function, trained in ((loss, model), (compiled, twin)):
        optimizer = torch.optim.Adam(trained.parameters(), lr=1e-3)
        curve = []
        for step in range(20):
            optimizer.zero_grad()
            value = function(trained, x, y)
            value.backward()
            if step == 0:
                gradients.append([p.grad.clone() for p in trained.parameters()])
            optimizer.step()
            curve.append(value.detach())
        curves.append(torch.stack(curve))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(curves[1], curves[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(twin.state_dict(), model.state_dict(), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_optimizer_step(kind):
    torch.manual_seed(0)
    model = mlp()
    twin = copy.deepcopy(model)
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    pairs = [(m, kind(m.parameters(), lr=1e-2, **options)) for m in (model, twin)]
    torch._dynamo.reset()
    step = torch.compile(pairs[1][1].step, backend="toroid")
    for _ in range(3):
        gradients = [torch.randn_like(p) for p in model.parameters()]
        for trained, _ in pairs:
            for parameter, gradient in zip(trained.parameters(), gradients):
                parameter.grad = gradient.clone()
        pairs[0][1].step()
        step()
    torch.testing.assert_close(twin.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-5)


def test_saved_values_and_dynamic_sizes():
    def f(x, w):
        y = (x @ w).tanh()
        return (y * x.sum(1, keepdim=True)).logsumexp(1), y.size(0)

    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", options=NATIVE, dynamic=True)
    for rows in (3, 7, 12):
        compare(f, compiled, torch.randn(rows, 5, requires_grad=True), torch.randn(5, 4, requires_grad=True), grad=True)


def test_write_to_an_argument_under_autograd():
    def f(x, w):
        y = x * w
        y.add_(1)
        return y.sin()

    torch._dynamo.reset()
    compiled = torch.compile(f, backend="toroid", options=NATIVE)
    compare(f, compiled, torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True), grad=True)


def test_dropout_of_forward_and_backward_agree():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: F.dropout(x * 2, 0.25), backend="toroid")
    x = torch.ones(2000, requires_grad=True)
    torch.manual_seed(3)
    first = compiled(x)
    first.sum().backward()
    assert torch.equal(first == 0, x.grad == 0)
    assert 0.2 < (first == 0).float().mean() < 0.3
    assert not torch.equal(compiled(x), first)
    torch.manual_seed(3)
    assert torch.equal(compiled(x), first)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
