"""Control flow that torch.export.save cannot write or that only torch.compile keeps: numbers that loops carry, branches
of different sizes, torch.vmap, regions compiled once."""
import unittest

import torch
from torch._higher_order_ops import associative_scan, while_loop
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import toroid
from functions import Function


class ControlFlow(unittest.TestCase):
    def check(self, function, *cases, dynamic=None):
        """as an exported program and under torch.compile"""
        torch._dynamo.reset()
        exported = torch.export.export(Function(function), cases[0], dynamic_shapes={"args": dynamic} if dynamic else None, strict=False)
        native = torch.compile(function, backend="toroid", fullgraph=True, options={"fullgraph_native": True})
        for program in (toroid.compile(exported), native):
            for args in cases:
                torch.testing.assert_close(program(*args), function(*args))

    def test_a_loop_that_carries_numbers(self):
        def f(x):
            return while_loop(lambda i, j, x: (i < 9) & (j < 40), lambda i, j, x: (i + 2, j * i + 1, x * 2 + j), (1, 3, x))

        self.check(f, (torch.randn(3),))

    def test_a_loop_to_a_size(self):
        def f(x):
            n = x.shape[0]
            return while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y + i), (0, x))[1]

        self.check(f, (torch.randn(5),), (torch.randn(8),), dynamic=({0: torch.export.Dim.DYNAMIC},))

    def test_two_loops_of_numbers(self):
        def f(x):
            i, x = while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (0, x))
            j, x = while_loop(lambda j, x: j > 1, lambda j, x: (j - 1, x + j), (5, x))
            return x, i, j

        self.check(f, (torch.randn(3),))

    def test_branches_of_different_sizes(self):
        def f(x):
            y = torch.cond(x.sum() > 0, lambda x: x[:2] * 2, lambda x: x[1:] + 1, (x,))
            return y, y.sum(0), y.mT @ y

        self.check(f, (torch.rand(5, 3),), (-torch.rand(5, 3),))

    def test_branches_that_give_numbers(self):
        def f(x):
            y, n = torch.cond(x.sum() > 0, lambda x: (x + 1, 2), lambda x: (x - 1, 7), (x,))
            return y * n, n

        self.check(f, (torch.rand(5),), (-torch.rand(5),))

    def test_vmap(self):
        def f(x, y):
            return torch.vmap(torch.vmap(lambda a, b: (a * b).sum(), in_dims=(None, 0)), in_dims=(0, None))(x, y)

        self.check(f, (torch.randn(4, 5), torch.randn(6, 5)))

    def test_an_associative_scan(self):
        def f(a, b):
            return associative_scan(lambda l, r: (l[0] * r[0], l[1] * r[0] + r[1]), (a, b), 1, combine_mode="generic")

        self.check(f, (torch.rand(3, 7, 2), torch.randn(3, 7, 2)))

    def test_a_region_compiled_once(self):
        @torch.compiler.nested_compile_region
        def region(x, w):
            return (x @ w).sin() * 2

        self.check(lambda x, v, w: region(region(x, v), w), (torch.randn(3, 4), torch.randn(4, 4), torch.randn(4, 4)))

    def test_flex_attention(self):
        q, k, v = (torch.randn(2, 4, 64, 16) for _ in range(3))
        bias, slopes = torch.randn(64, 64), torch.rand(4)
        causal = create_block_mask(lambda b, h, i, j: i >= j, None, None, 64, 64, device="cpu")
        for f in (
            lambda q, k, v: flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s + bias[i, j] + slopes[h] * (j - i)),
            lambda q, k, v: flex_attention(q, k, v, block_mask=causal),
            lambda q, k, v: flex_attention(q, k[:, :2], v[:, :2], enable_gqa=True, return_lse=True),
        ):
            for dynamic in (False, True):
                torch._dynamo.reset()
                native = torch.compile(f, backend="toroid", fullgraph=True, dynamic=dynamic, options={"fullgraph_native": True})
                torch.testing.assert_close(native(q, k, v), f(q, k, v))

    def test_a_program_that_pytorch_cannot_read_itself(self):
        """its constants are tensors without memory"""
        exported = torch.export.export(Function(lambda x: torch.func.jacrev(lambda v: v.sin() * v.sum())(x)), (torch.randn(4),), strict=False)
        with self.assertRaisesRegex(toroid.UnsupportedError, "torch.vmap"):
            toroid.compile(exported)


if __name__ == "__main__":
    unittest.main()
