"""torch.compile(backend="toroid"): gradients of single functions equal eager's, every op of the backward compiled."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from backend_testing import NATIVE

torch.manual_seed(0)
IMAGE = (2, 3, 7, 6)
VOLUME = (1, 2, 5, 4, 6)


def x(*sizes):
    return torch.randn(*sizes, requires_grad=True)


def grid(*sizes):
    return (torch.rand(*sizes) * 2.4 - 1.2).requires_grad_()


BAG = (torch.tensor([1, 2, 2, 4, 0, 3, 1]), torch.tensor([0, 3, 5]))
CASES = {
    "avg_pool2d": (lambda a: F.avg_pool2d(a, 3, 2, 1, True, False), x(*IMAGE)),
    "avg_pool3d": (lambda a: F.avg_pool3d(a, 2, 2), x(*VOLUME)),
    "adaptive_avg_pool2d": (lambda a: F.adaptive_avg_pool2d(a, (3, 4)), x(*IMAGE)),
    "adaptive_avg_pool3d": (lambda a: F.adaptive_avg_pool3d(a, (3, 2, 4)), x(*VOLUME)),
    "max_pool3d": (lambda a: F.max_pool3d(a, 2, 2), x(*VOLUME)),
    "adaptive_max_pool2d": (lambda a: F.adaptive_max_pool2d(a, (3, 4)), x(*IMAGE)),
    "adaptive_max_pool3d": (lambda a: F.adaptive_max_pool3d(a, (3, 2, 4)), x(*VOLUME)),
    "replication_pad": (lambda a: F.pad(a, (1, 2, 3, 0), mode="replicate"), x(*IMAGE)),
    "replication_pad3d": (lambda a: F.pad(a, (1, 0, 0, 2, 1, 1), mode="replicate"), x(*VOLUME)),
    "reflection_pad": (lambda a: F.pad(a, (1, 2, 3, 0), mode="reflect"), x(*IMAGE)),
    "nearest": (lambda a: F.interpolate(a, size=(4, 11)), x(*IMAGE)),
    "nearest_exact": (lambda a: F.interpolate(a, scale_factor=1.7, mode="nearest-exact"), x(*IMAGE)),
    "linear": (lambda a: F.interpolate(a, scale_factor=1.7, mode="linear"), x(2, 3, 7)),
    "bilinear": (lambda a: F.interpolate(a, size=(4, 11), mode="bilinear"), x(*IMAGE)),
    "bilinear_aligned": (lambda a: F.interpolate(a, size=(9, 1), mode="bilinear", align_corners=True), x(*IMAGE)),
    "bicubic": (lambda a: F.interpolate(a, size=(10, 3), mode="bicubic"), x(*IMAGE)),
    "trilinear": (lambda a: F.interpolate(a, size=(7, 3, 6), mode="trilinear"), x(*VOLUME)),
    "antialiased": (lambda a: F.interpolate(a, size=(3, 9), mode="bilinear", antialias=True), x(*IMAGE)),
    "grid_sample": (lambda a, g: F.grid_sample(a, g, align_corners=False), x(*IMAGE), grid(2, 4, 3, 2)),
    "grid_sample_border": (
        lambda a, g: F.grid_sample(a, g, padding_mode="border", align_corners=True), x(*IMAGE), grid(2, 4, 3, 2)),
    "grid_sample_reflection": (
        lambda a, g: F.grid_sample(a, g, padding_mode="reflection", align_corners=False), x(*IMAGE), grid(2, 4, 3, 2)),
    "grid_sample_cubic": (
        lambda a, g: F.grid_sample(a, g, mode="bicubic", align_corners=False), x(*IMAGE), grid(2, 4, 3, 2)),
    "grid_sample_volume": (lambda a, g: F.grid_sample(a, g, align_corners=True), x(*VOLUME), grid(1, 2, 3, 2, 3)),
    "attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), x(2, 3, 5, 4), x(2, 3, 6, 4), x(2, 3, 6, 4)),
    "causal_attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), x(2, 3, 5, 4), x(2, 3, 5, 4),
        x(2, 3, 5, 4)),
    "masked_attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=(torch.arange(6) < 4).expand(5, 6), scale=0.3),
        x(2, 3, 5, 4), x(2, 3, 6, 4), x(2, 3, 6, 4)),
    "cdist": (lambda a, b: torch.cdist(a, b), x(2, 4, 3), x(2, 5, 3)),
    "cdist_1": (lambda a, b: torch.cdist(a, b, 1.0), x(4, 3), x(5, 3)),
    "cdist_most": (lambda a, b: torch.cdist(a, b, float("inf")), x(4, 3), x(5, 3)),
    "cdist_3": (lambda a, b: torch.cdist(a, b, 3.0), x(4, 3), x(5, 3)),
    "pdist": (lambda a: F.pdist(a), x(5, 3)),
    "bilinear_form": (lambda a, b, w: F.bilinear(a, b, w), x(4, 3), x(4, 5), x(2, 3, 5)),
    "multi_margin": (lambda a: F.multi_margin_loss(a, torch.tensor([1, 0, 3]), p=2, margin=0.7), x(3, 4)),
    "embedding_bag_sum": (lambda w: F.embedding_bag(BAG[0], w, BAG[1], mode="sum"), x(5, 4)),
    "embedding_bag_mean": (lambda w: F.embedding_bag(BAG[0], w, BAG[1], mode="mean", padding_idx=2), x(5, 4)),
    "embedding_bag_max": (lambda w: F.embedding_bag(BAG[0], w, BAG[1], mode="max"), x(5, 4)),
    "embedding_bag_scaled": (
        lambda w, s: F.embedding_bag(BAG[0], w, BAG[1], mode="sum", per_sample_weights=s), x(5, 4), x(7)),
    "masked_scatter": (lambda a, s: a.masked_scatter(torch.arange(12).reshape(3, 4) % 3 == 0, s), x(3, 4), x(5)),
    "cross_entropy_smoothed": (
        lambda a: F.cross_entropy(a, torch.tensor([1, 0, 3]), label_smoothing=0.2), x(3, 4)),
    "cross_entropy_shares": (lambda a, t: F.cross_entropy(a, t.softmax(1)), x(3, 4), x(3, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient(name):
    function, *inputs = CASES[name]

    def run(f):
        copies = [t.detach().clone().requires_grad_() for t in inputs]
        y = f(*copies)
        y.backward(torch.linspace(-1, 2, y.numel()).reshape(y.shape))
        return [y, *(t.grad for t in copies)]

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="toroid", fullgraph=True, options=NATIVE)
    for got, want in zip(run(compiled), run(function)):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
