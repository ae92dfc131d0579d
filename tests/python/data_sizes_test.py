"""Slices whose bounds are read from tensors, and floats that are, as archives and in this process; assertions on what
tensors hold; checks of linalg under torch.compile."""
import os
import tempfile
import unittest

import torch

import toroid
from functions import Function


def both(function, *args):
    """The program compiled from the archive, and from the exported program itself."""
    exported = torch.export.export(Function(function), args, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.pt2")
        torch.export.save(exported, path)
        return toroid.compile(path), toroid.compile(exported)


def native(function):
    return torch.compile(function, backend="toroid", fullgraph=True, options={"fullgraph_native": True})


class DataSizes(unittest.TestCase):
    def check(self, function, *cases):
        torch._dynamo.reset()
        for program in (*both(function, *cases[0]), native(function)):
            for args in cases:
                torch.testing.assert_close(program(*args), function(*args))

    def test_slices(self):
        x = torch.randn(10, 6, 7)

        def f(x, n):
            k = n.max().item()
            return x[:k], x[k:] * 2, x[-k:].sum(0), x[k - 1 :: 2]

        self.check(f, *((x, torch.tensor(n)) for n in ([1, 4], [0, 12], [5, 3], [-3, -9])))

    def test_a_row(self):
        x = torch.randn(10, 6)
        self.check(lambda x, n: x[n.item()] + 1, *((x, torch.tensor(n)) for n in (0, 9, -10)))

    def test_cat_of_slices(self):
        x = torch.randn(4, 12, 8)

        def f(x, n):
            k = n.item()
            return torch.cat([x[:, :k], x[:, k:] * 2], 1).softmax(-1)

        self.check(f, *((x, torch.tensor(n)) for n in (3, 0, 12, 7)))

    def test_floats(self):
        def f(x, s):
            k = s.item()
            return x * k + 1, torch.full((3,), k), x.clamp(max=k)

        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            for dtype in (torch.float32, torch.bfloat16, torch.float64):
                self.check(f, *((torch.randn(5), torch.tensor(v, dtype=dtype)) for v in (0.75, -2.0)))

    def test_numbers_returned(self):
        # A compiled program gives ints; of a float or a bool it would give something else, so it says no.
        for x in (torch.tensor([0.5, 0.75]), torch.tensor([True, False])):
            f = (lambda x: x.any().item()) if x.dtype == torch.bool else (lambda x: x.max().item())
            with self.assertRaisesRegex(toroid.UnsupportedError, "return the tensor"):
                toroid.compile(torch.export.export(Function(f), (x,), strict=False))
        x = torch.tensor([3, 4])
        for program in both(lambda x: (x.sum(), x.max().item()), x):
            self.assertEqual(program(x)[1], 4)

    def test_tensor_split(self):
        x = torch.randn(10, 6)

        def f(x, at):
            a, b, c = torch.tensor_split(x, at, 0)
            return a.sum(0), b * 2, c + 1

        self.check(f, *((x, torch.tensor(at)) for at in ([1, 4], [0, 10], [5, 3], [-3, 9])))

    def test_views_that_begin_where_data_say(self):
        # A sliced input begins in the middle of its storage.
        x = torch.randn(11, 6)
        f = native(lambda x, n: x[n.item() :])
        for start in (0, 1):
            for n in (2, 3):
                torch.testing.assert_close(f(x[start : start + 10], torch.tensor(n)), x[start + n : start + 10])


class Assertions(unittest.TestCase):
    def test_contents(self):
        def f(x):
            torch._assert_async((x > 0).all(), "x must be positive")
            return x * 2

        x = torch.ones(5)
        for program in (*both(f, x), native(f)):
            torch.testing.assert_close(program(x), f(x))
            with self.assertRaisesRegex(toroid.Error, "x must be positive"):
                program(-x)

    def test_linalg(self):
        x = torch.randn(4, 4) + 4 * torch.eye(4)
        inverse = native(torch.linalg.inv)
        torch.testing.assert_close(inverse(x), torch.linalg.inv(x))
        with self.assertRaisesRegex(toroid.Error, "linalg.inv.*singular"):
            inverse(torch.zeros(4, 4))
        solve = native(lambda a, b: torch.linalg.solve(a, b).sum())
        a, b = x.clone().requires_grad_(), torch.randn(4, 2)
        solve(a, b).backward()
        torch.testing.assert_close(a.grad, torch.autograd.grad(torch.linalg.solve(a, b).sum(), a)[0])


if __name__ == "__main__":
    unittest.main()
