"""Ops over lists of tensors, as optimizers call them, compiled in this process, beside eager PyTorch."""
import unittest

import torch

import toroid
from functions import Function


class Lists(unittest.TestCase):
    def check(self, function, *args):
        with torch.no_grad():
            program = toroid.compile(torch.export.export(Function(function), args, strict=False))
        copies = [a.clone() for a in args]
        torch.testing.assert_close(program(*args), function(*copies))
        torch.testing.assert_close(args, tuple(copies))

    def test_adam(self):
        def function(a, b, c, d):
            p, g = [a, b], [c, d]
            scale = torch.clamp(1 / (torch.stack(torch._foreach_norm(g)).norm() + 1e-6), max=1)
            g = torch._foreach_mul(g, scale)
            m, v = torch._foreach_mul(g, 0.1), torch._foreach_mul(g, g)
            m = torch._foreach_lerp(m, g, 0.5)
            bottom = torch._foreach_add(torch._foreach_sqrt(torch._foreach_div(v, [2.0, 3.0])), 1e-8)
            return torch._foreach_addcdiv(p, m, bottom, value=-0.01), torch._foreach_addcmul(p, m, m, [1.0, 2.0])
        torch.manual_seed(0)
        self.check(function, torch.randn(3, 4), torch.randn(5), torch.randn(3, 4), torch.randn(5))

    def test_in_place(self):
        def function(a, b, c, d):
            torch._foreach_mul_([a, b], 0.9)
            torch._foreach_add_([a, b], [c, d], alpha=0.1)
            torch._foreach_clamp_min_([a, b], -0.5)
            torch._foreach_pow_([c], 2)
            torch._foreach_zero_([d])
            return a + 1, torch._foreach_maximum([a, b], 0.1), torch._foreach_pow([a], [c]), torch._foreach_neg([b])
        torch.manual_seed(1)
        self.check(function, torch.rand(3, 4), torch.rand(5), torch.rand(3, 4), torch.rand(5))


if __name__ == "__main__":
    unittest.main()
