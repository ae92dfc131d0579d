"""Regions of torch.autocast in exported programs, as archives and in this process: the types of eager PyTorch, and values as
near to float64 as its own."""
import os
import tempfile
import unittest

import torch
import torch.nn.functional as F
from torch import nn

import toroid
from functions import Function


class Block(nn.Module):
    """Layers that autocast takes to bfloat16, to float32 and to the wider of the two, and a region inside without it."""

    def __init__(self):
        super().__init__()
        self.conv, self.batch_norm, self.group_norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.GroupNorm(4, 16)
        self.embedding, self.norm, self.prelu = nn.Embedding(10, 16), nn.LayerNorm(16), nn.PReLU(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x, ids):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.prelu(self.group_norm(self.batch_norm(self.conv(x)).relu()))
            y = F.max_pool2d(y, 2).flatten(2).transpose(1, 2) + self.embedding(ids)
            q, k, v = self.qkv(self.norm(y)).chunk(3, -1)
            y = y + self.out(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])
            weights = torch.softmax(y @ y.transpose(1, 2), -1)
            mixed = torch.einsum("bij,bjk->bik", weights, y)
            with torch.autocast("cpu", enabled=False):
                plain = self.out(mixed.float())
            joined = torch.cat([plain, mixed], -1)
            loss = F.mse_loss(joined, torch.zeros_like(joined)) + F.cross_entropy(self.out(plain)[:, 0], ids[:, 0])
        return self.out(plain), joined, loss, torch.stack([plain, plain * 2]), weights


def programs(exported):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.pt2")
        torch.export.save(exported, path)
        return toroid.compile(exported), toroid.compile(path)


class Autocast(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)

    def test_block(self):
        model, args = Block().eval(), (torch.randn(2, 3, 8, 8), torch.randint(0, 10, (2, 16)))
        with torch.no_grad():
            exported = torch.export.export(model, args, strict=False)
            eager = model(*args)
            with torch.autocast("cpu", enabled=False):
                wide = Block().eval().double()
                wide.load_state_dict(model.state_dict())
                # Autocast leaves float64 as it is; the region inside asks for float32.
                reference = wide_forward(wide, args[0].double(), args[1])
            for program in programs(exported):
                for got, want, exact in zip(program(*args), eager, reference):
                    self.assertEqual((got.dtype, got.stride()), (want.dtype, want.stride()))
                    error, allowed = (got - exact).abs().max(), 2 * (want - exact).abs().max()
                    self.assertLessEqual(error.item(), allowed.item() + 1e-6)

    def test_float16(self):
        layer = nn.Linear(8, 8)

        def f(x):
            with torch.autocast("cpu", dtype=torch.float16):
                return layer(x), F.binary_cross_entropy_with_logits(layer(x), torch.zeros(4, 8))

        class Holder(Function):
            def __init__(self):
                super().__init__(f)
                self.layer = layer

        x = torch.randn(4, 8)
        with torch.no_grad():
            for program in programs(torch.export.export(Holder(), (x,), strict=False)):
                torch.testing.assert_close(program(x), f(x))

    def test_refused(self):
        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = nn.LSTM(8, 8)

            def forward(self, x):
                with torch.autocast("cpu"):
                    return self.lstm(x)[0]

        for model, args, strict, text in (
            (Recurrent(), (torch.randn(3, 2, 8),), False, "lstm.*autocast"),
            (Block().eval(), (torch.randn(2, 3, 8, 8), torch.randint(0, 10, (2, 16))), True, "strict=False"),
        ):
            with self.assertRaisesRegex(toroid.UnsupportedError, f"(?s){text}"):
                toroid.compile(torch.export.export(model, args, strict=strict))


def wide_forward(model, x, ids):
    """Block.forward in float64 throughout."""
    y = model.prelu(model.group_norm(model.batch_norm(model.conv(x)).relu()))
    y = F.max_pool2d(y, 2).flatten(2).transpose(1, 2) + model.embedding(ids)
    q, k, v = model.qkv(model.norm(y)).chunk(3, -1)
    y = y + model.out(F.scaled_dot_product_attention(q, k, v))
    weights = torch.softmax(y @ y.transpose(1, 2), -1)
    mixed = weights @ y
    plain = model.out(mixed)
    joined = torch.cat([plain, mixed], -1)
    loss = joined.square().mean() + F.cross_entropy(model.out(plain)[:, 0], ids[:, 0])
    return model.out(plain), joined, loss, torch.stack([plain, plain * 2]), weights


if __name__ == "__main__":
    unittest.main()
