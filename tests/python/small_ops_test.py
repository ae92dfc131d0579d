"""Second names of ops, small composites and floats of 8 bits, compiled in this process, beside eager PyTorch; integer
divisions by zero fail as eager's do."""
import itertools
import unittest

import torch
import torch.nn.functional as F
from torch import nn

import toroid
from functions import Function


def compiled(function, *args):
    with torch.no_grad():
        return toroid.compile(torch.export.export(Function(function), args, strict=False))


class SmallOps(unittest.TestCase):
    def check(self, function, *args, **tolerance):
        got, want = compiled(function, *args)(*args), function(*args)
        torch.testing.assert_close(got, want, equal_nan=True, **tolerance)

    def test_second_names(self):
        torch.manual_seed(0)
        x, y, n = torch.rand(5, 7) * 0.9, torch.rand(5, 7) + 1, torch.randint(1, 9, (5, 7))
        self.check(lambda x: (torch.arccos(x), torch.arcsin(x), torch.arctan(x), torch.arctanh(x)), x)
        self.check(lambda x, y: (torch.arccosh(y), torch.arcsinh(x), torch.arctan2(x, y), torch.negative(x)), x, y)
        self.check(lambda x, y: (torch.special.xlogy(x, y), torch.special.xlogy(2.0, y), torch.xlogy(2.0, y)), x, y)
        self.check(lambda x: (torch.special.xlog1py(2.0, x), torch.special.xlog1py(x, 2.0)), x)
        self.check(lambda x: (torch.special.softmax(x, 1), torch.special.log_softmax(x, 0)), x)
        self.check(lambda x: (torch.special.logsumexp(x, 1), torch.special.round(x, decimals=2)), x)
        self.check(lambda x, y: torch.linalg.matmul(x, y.mT), x, y)
        self.check(lambda x: torch.matrix_power(x[:, :5], 3), x)
        self.check(lambda n: (torch.remainder(7, n), torch.bitwise_and(6, n), torch.bitwise_left_shift(1, n)), n)

    def test_windows(self):
        x = torch.ones(8)
        self.check(lambda x: (x * torch.hann_window(8), x * torch.hamming_window(8, periodic=False)), x)
        self.check(lambda x: (x * torch.blackman_window(8), x * torch.bartlett_window(8), x * torch.kaiser_window(8)), x)

    def test_composites(self):
        torch.manual_seed(1)
        x = torch.randn(4, 3, 6)
        for aligned in (False, True):
            self.check(lambda t: F.affine_grid(t, [4, 1, 5, 6], align_corners=aligned), x[:, :2, :3].contiguous())
        self.check(lambda x: nn.utils.rnn.pad_sequence([x[0], x[1, :2], x[2, :1]], True, 0.5), x)
        self.check(lambda x, w, b: torch.conv_tbc(x, w, b, 1), x, torch.randn(3, 6, 5), torch.randn(5))
        self.check(lambda x: (torch.nuclear_norm(x[0]), torch.chain_matmul(x[0], x[1].mT, x[2])), x)
        self.check(lambda x: (torch.range(0, 4) + x[0, 0, 0], torch.linalg.matrix_rank(x, tol=0.1)), x)
        self.check(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.05, 3, 0, 255), x)
        self.check(lambda x: torch.view_as_real_copy(torch.complex(x, x)), x)

    def test_the_same_bytes(self):
        x = torch.tensor([0.0, -0.0, 1.5, -3.25, 6e-8, 65504, torch.inf, -torch.inf])
        sizes = {1: [torch.uint8, torch.int8, torch.float8_e4m3fn, torch.float8_e5m2],
                 2: [torch.int16, torch.float16, torch.bfloat16], 4: [torch.int32, torch.float32],
                 8: [torch.int64, torch.float64]}
        types = [d for group in sizes.values() for d in group]
        bytes_of = x.repeat(8)
        for a, b in itertools.product(types, types):
            # From eager's own bytes, so that both sides begin alike; compared as integers.
            source = bytes_of.to(a) if a.is_floating_point else bytes_of.to(torch.float32).view(a)
            whole = next(group[0] for n, group in sizes.items() if b in group)
            back = torch.uint8 if whole is torch.uint8 else whole
            # Of a NaN only that it is one is kept.
            if b.is_floating_point and source.view(b).float().isnan().any():
                continue
            entry = source.view(torch.uint8)
            self.check(lambda u: u.view(a).view(b).view(back) if back is not b else u.view(a).view(b), entry)

    def test_writes_through_other_types(self):
        def written(x):
            y = x.clone()
            y.view(torch.int32).add_(1)
            return y

        self.check(written, torch.ones(4), rtol=0, atol=0)
        with self.assertRaises(toroid.Error):
            compiled(lambda x: x.clone().view(torch.uint8).add_(1), torch.ones(4))

    def test_floats_of_eight_bits(self):
        torch.manual_seed(2)
        x = torch.cat([torch.randn(1000) * s for s in (1e-3, 1, 100, 1e5)] + [torch.tensor([torch.inf, torch.nan])])
        for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            self.check(lambda x: (x.to(dtype).float(), x.bfloat16().to(dtype).float() * 2), x)
            codes = torch.arange(256, dtype=torch.uint8)
            self.check(lambda c: c.view(dtype).float(), codes)

            class Layer(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.register_buffer("weight", torch.randn(48, 40).to(dtype))

                def forward(self, x):
                    return x @ self.weight.float().t() * 0.5, self.weight.float().sum(0)

            layer, rows = Layer(), torch.randn(9, 40)
            program = toroid.compile(torch.export.export(layer, (rows,)))
            torch.testing.assert_close(program(rows), layer(rows))

    def test_sums_of_products_of_integers(self):
        for dtype in (torch.int32, torch.uint8, torch.int8, torch.int64):
            a, b = torch.randint(0, 5, (3, 4)).to(dtype), torch.randint(0, 5, (4, 5)).to(dtype)
            self.check(lambda a, b: (torch.einsum("ij,jk->ik", a, b), torch.einsum("ij->i", a)), a, b)
            self.check(lambda a, b: (torch.einsum("ij,jk->i", a, b.mT[:1].mT), torch.einsum("i,j->ij", a[0], b[0])), a, b)

    def test_eigenvalues_come_in_eagers_order(self):
        torch.manual_seed(3)
        for n in (2, 3, 5, 8, 12):
            a = torch.randn(4, n, n, dtype=torch.float64)
            self.check(lambda a: torch.linalg.eigvals(a), a)
            self.check(lambda a: torch.linalg.eig(a)[0], a)
            self.check(lambda a: torch.linalg.eigvals(a.triu()), a)

    def test_divisions_by_zero(self):
        calls = [lambda a, b: a // b, lambda a, b: a % b, lambda a, b: torch.fmod(a, b),
                 lambda a, b: torch.div(a, b, rounding_mode="trunc"), lambda a, b: 7 % b]
        for dtype, f in itertools.product((torch.int64, torch.int32, torch.uint8), calls):
            a, good = torch.arange(37).to(dtype), torch.arange(1, 38).to(dtype)
            program = compiled(f, a, good)
            torch.testing.assert_close(program(a, good), f(a, good))
            bad = good.clone()
            bad[36] = 0
            with self.assertRaisesRegex(toroid.Error, "integer division by zero"):
                program(a, bad)
            with self.assertRaisesRegex(RuntimeError, "ZeroDivisionError"):
                f(a, bad)


if __name__ == "__main__":
    unittest.main()
