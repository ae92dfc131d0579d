"""Programs of a few ops, compiled in this process, beside eager PyTorch: sizes that data decide, complex numbers through
factorisations, bools in vectors, results that are inputs without elements."""
import unittest

import torch

import toroid
from functions import Function


class Values(unittest.TestCase):
    def check(self, function, *args, **tolerance):
        with torch.no_grad():
            program = toroid.compile(torch.export.export(Function(function), args, strict=False))
        got, want = program(*args), function(*args)
        torch.testing.assert_close(got, want, equal_nan=True, **tolerance)

    def test_sizes_that_data_decide(self):
        torch.manual_seed(0)
        x = torch.randint(0, 4, (5, 6))
        self.check(lambda x: torch.masked_select(x, x > 1), x)
        self.check(lambda x: torch.nonzero(x), x)
        self.check(lambda x: torch.unique(x, return_inverse=True, return_counts=True), x)
        self.check(lambda x: torch.bincount(x.flatten(), minlength=2), x)
        self.check(lambda x: torch.bincount(x, minlength=3), torch.zeros(0, dtype=torch.int64))

    def test_masks_with_values(self):
        x, mask = torch.randn(5, 3), torch.tensor([True, False, True, True, False])
        for accumulate in (False, True):
            self.check(lambda x, m, v: torch.index_put(x, (m,), v, accumulate), x, mask, torch.randn(3, 3))
        program = toroid.compile(torch.export.export(Function(lambda x, m, v: torch.index_put(x, (m,), v)),
                                                     (x, mask, torch.randn(3, 3)), strict=False))
        with self.assertRaisesRegex(toroid.Error, "makes a size that is not 3"):
            program(x, torch.ones(5, dtype=torch.bool), torch.randn(3, 3))

    def test_bools_in_vectors(self):
        x, y = torch.rand(40) < 0.5, torch.rand(40) < 0.5
        self.check(lambda x, y: (x < y, x <= y, x > y, x >= y, torch.maximum(x, y), torch.minimum(x, y)), x, y)
        self.check(lambda x: torch.aminmax(x), x)

    def test_writes_through_windows(self):
        x = torch.randn(3, 9)

        def f(x, size, step):
            y = x.clone()
            windows = y.unfold(1, size, step)
            windows.zero_() if size > step else windows.mul_(2)
            return y, windows + 1

        for size, step in ((2, 3), (3, 3), (2, 1)):
            self.check(lambda x: f(x, size, step), x)
            self.check(lambda x: f(x.mT, size, step), torch.randn(9, 3))

    def test_a_product_less_itself(self):
        x = torch.randn(100)
        self.check(lambda x: ((x * x) - (x * x), (x * 3) - (x * 3).abs().copysign(x), (x / 3) * x - (x / 3 * x).relu()), x, rtol=0, atol=0)

    def test_results_that_are_empty_inputs(self):
        self.check(lambda x: x.conj(), torch.randn(0, 3))
        self.check(lambda x: torch.real(x), torch.randn(2, 0))

    def test_complex_matrices(self):
        torch.manual_seed(1)
        a, b = torch.randn(2, 5, 5, dtype=torch.complex128), torch.randn(2, 5, 3, dtype=torch.complex128)
        positive = a @ a.mH + torch.eye(5)
        self.check(lambda a, b: torch.linalg.solve(a, b), a, b)
        self.check(lambda a: torch.linalg.inv(a), a)
        self.check(lambda a: torch.linalg.lu_factor(a), a)
        self.check(lambda a: torch.linalg.cholesky(a), positive)
        self.check(lambda a: torch.linalg.cholesky(a, upper=True), positive)
        self.check(lambda a: torch.linalg.qr(a), a)
        self.check(lambda a: torch.geqrf(a), a)
        self.check(lambda a: torch.linalg.svdvals(a), a)
        self.check(lambda a: torch.linalg.pinv(a), a)
        self.check(lambda a: torch.linalg.eigvalsh(a, UPLO="U"), a)
        self.check(lambda a: torch.matrix_exp(a), a)
        self.check(lambda a, b: torch.linalg.solve(a, b.mT, left=False), a, b)
        self.check(lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), a, b)
        self.check(lambda a, b: torch.linalg.solve_triangular(a, b.mT, upper=False, left=False), a, b)

    def test_spectra(self):
        torch.manual_seed(2)
        for dtype in (torch.float64, torch.complex128):
            a = torch.randn(3, 4, 4, dtype=dtype)

            def again(a):
                values, vectors = torch.linalg.eig(a)
                return vectors @ (values.unsqueeze(-1) * torch.linalg.inv(vectors))

            self.check(lambda a: torch.linalg.eigvals(a).abs().sort(-1)[0], a)
            program = toroid.compile(torch.export.export(Function(again), (a,), strict=False))
            torch.testing.assert_close(program(a), a.to(torch.complex128))

    def test_indefinite_systems(self):
        torch.manual_seed(3)
        a = torch.randn(4, 6, 6, dtype=torch.float64)
        a = a + a.mT
        a[0, 0, 0] = a[0, 1, 1] = 0  # a pivot of two rows
        self.check(lambda a: torch.linalg.ldl_factor(a), a)
        self.check(lambda a, b: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(a), b), a,
                   torch.randn(4, 6, 2, dtype=torch.float64))

    def test_complex_eigenvalues_come_in_eagers_order(self):
        torch.manual_seed(2)
        # All of one size, so that none but LAPACK's own order is met.
        for n in (1, 2, 5, 12, 40):
            a = torch.randn(3, n, n, dtype=torch.complex128)
            self.check(lambda a: torch.linalg.eigvals(a), a)
        self.check(lambda a: torch.linalg.eigvals(a), torch.randn(2, 6, 6, dtype=torch.complex64).triu())

    def test_complex_weights(self):
        torch.manual_seed(3)
        shared = torch.randn(2, 6, dtype=torch.complex64)

        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))
                self.register_buffer("rows", shared[1])
                self.register_buffer("sum", torch.zeros(3, dtype=torch.complex128))

            def forward(self, x):
                self.sum.add_((x @ self.weight).sum(0))
                return self.weight.mT, self.rows * 2, self.sum + self.rows[:3]

        module, x = Module().requires_grad_(False), torch.randn(5, 4, dtype=torch.complex64)
        program = toroid.compile(torch.export.export(module, (x,), strict=False))
        for _ in range(2):
            torch.testing.assert_close(program(x), module(x), rtol=1e-5, atol=1e-5)

    def test_complex_inputs_that_are_written(self):
        def add(x, y):
            return x.mul_(y).sum()

        x, y = torch.randn(3, 4, dtype=torch.complex64), torch.randn(4, dtype=torch.complex64)
        program = toroid.compile(torch.export.export(Function(add), (x.clone(), y), strict=False))
        for same in (lambda x: x.clone(), lambda x: x.mT.clone().mT):
            ours, eager = same(x), same(x)
            torch.testing.assert_close(program(ours, y), add(eager, y))
            torch.testing.assert_close(ours, eager)

    def test_types_that_are_only_handed_on(self):
        half = torch.randn(4, 2, dtype=torch.float16)
        self.check(lambda x: torch.view_as_complex(x), half)
        self.check(lambda x: torch.complex(x, x * 2), half)
        self.check(lambda z: torch.view_as_real(z * 1), torch.view_as_complex(half).clone())
        for dtype in (torch.uint16, torch.uint32, torch.uint64):
            self.check(lambda x: x.reshape(2, 3).mT.clone(), torch.arange(6).to(dtype))
        self.check(lambda x: torch.hash_tensor(x), torch.randn(7))

    def test_bytes_resized(self):
        torch.manual_seed(4)
        image = torch.randint(0, 256, (1, 3, 9, 14), dtype=torch.uint8)
        for mode in ("bilinear", "bicubic"):
            for size in ((9, 30), (4, 14), (21, 5)):
                for options in ({}, {"align_corners": True}, {"antialias": True}):
                    self.check(lambda x, m=mode, s=size, o=options: torch.nn.functional.interpolate(x, s, mode=m, **o), image)


if __name__ == "__main__":
    unittest.main()
