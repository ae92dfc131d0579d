"""Calls of compiled programs: nesting, kinds of inputs, aliases, mutation, errors, threads, NumPy."""
import gc
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

import toroid
from functions import Function

DYNAMIC = torch.export.Dim.DYNAMIC


def export(f, args, kwargs=None, dynamic_shapes=None):
    module = f if isinstance(f, nn.Module) else Function(f)
    with torch.no_grad():
        return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes)


def compile(f, *args, dynamic_shapes=None, **kwargs):
    return toroid.compile(export(f, args, kwargs, dynamic_shapes))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, features, pair, *, scale, flag=True):
        a, (b, c) = features["a"], pair
        y = self.fc(a) + features["b"][0] * scale
        return {"y": y, "parts": [y.sum(), (b * 2, c + 1)], "n": a.shape[0], "flag": flag, "none": None}


class Calls(unittest.TestCase):
    def assert_same(self, got, want):
        self.assertEqual(type(got), type(want))
        if isinstance(want, torch.Tensor):
            torch.testing.assert_close(got, want)
            self.assertEqual(got.stride(), want.stride())
        elif isinstance(want, (tuple, list)):
            self.assertEqual(len(got), len(want))
            for g, w in zip(got, want):
                self.assert_same(g, w)
        elif isinstance(want, dict):
            self.assertEqual(list(got), list(want))
            for key in want:
                self.assert_same(got[key], want[key])
        else:
            self.assertEqual(got, want)

    def nested(self):
        model = Nested().eval()

        def args(n):
            return ({"a": torch.randn(n, 6), "b": [torch.randn(n, 6)]}, (torch.randn(3), torch.arange(n)))

        rows = {0: DYNAMIC}
        shapes = {"features": {"a": rows, "b": [rows]}, "pair": (None, rows), "scale": None, "flag": None}
        exported = export(model, args(4), {"scale": torch.tensor(2.0), "flag": True}, shapes)
        return model, args, exported

    def test_nesting_and_keywords(self):
        model, args, exported = self.nested()
        program = toroid.compile(exported)
        with tempfile.TemporaryDirectory() as folder:
            program.save(f"{folder}/m.toroid.pt2")
            loaded = toroid.load(f"{folder}/m.toroid.pt2")
        for n in (4, 9):
            given, scale = args(n), torch.tensor(0.5)
            with torch.no_grad():
                want = model(*given, scale=scale, flag=True)
            for p in (program, loaded):
                self.assert_same(p(*given, scale=scale, flag=True), want)
                # Keywords and keys of dicts in any order.
                swapped = (dict(reversed(given[0].items())), given[1])
                self.assert_same(p(*swapped, flag=True, scale=scale), want)
        given = args(4)
        for wrong, text in (
                (lambda: program(*given, scale=scale), "`flag` is missing"),
                (lambda: program(*given, scale=scale, flag=False), "is False, but the program was exported for True"),
                (lambda: program(*given, scale=scale, flag=1), "is 1, but the program was exported for True"),
                (lambda: program(*given, scale=scale, flag=True, more=1), "no keyword argument `more`"),
                (lambda: program(given[0], scale=scale, flag=True), "expected 2 positional arguments, got 1"),
                (lambda: program(given[0], list(given[1]), scale=scale, flag=True), "`args[1]`: is a list, must be a tuple"),
                (lambda: program({"a": given[0]["a"]}, given[1], scale=scale, flag=True), "must have 2"),
                (lambda: program({"a": 1, "c": 2}, given[1], scale=scale, flag=True), "has no key 'b'"),
                (lambda: program(*given, scale=2.0, flag=True), "is of type `float`, must be a tensor")):
            with self.assertRaises(toroid.InputError) as raised:
                wrong()
            self.assertIn(text, str(raised.exception))

    def test_types_that_only_pytree_knows(self):
        def f(x):
            return OrderedDict(a=x["x"] + 1, b=x["y"] * 2)

        given = OrderedDict(x=torch.randn(3), y=torch.randn(2))
        program = compile(f, given)
        self.assert_same(program(given), f(given))
        with tempfile.TemporaryDirectory() as folder:
            program.save(f"{folder}/m.pt2")
            self.assert_same(toroid.load(f"{folder}/m.pt2")(given), f(given))
        with self.assertRaises(toroid.InputError):
            program(dict(given))

    def test_strides_and_shapes(self):
        program = compile(lambda x: (x * 2 + 1).sum(1), torch.randn(4, 6), dynamic_shapes=None)
        base = torch.randn(12, 12)
        for x in (base[:4, :6], base.t()[:4, 1:7], base[::3, ::2], torch.randn(1, 6).expand(4, 6)):
            torch.testing.assert_close(program(x), (x * 2 + 1).sum(1))
        torch.testing.assert_close(compile(lambda x: x + 1, torch.tensor(3.0))(torch.tensor(4.0)), torch.tensor(5.0))
        empty = compile(lambda x: (x + 1, x.sum()), torch.randn(0, 5))
        self.assert_same(empty(torch.randn(0, 5)), (torch.empty(0, 5), torch.tensor(0.0)))
        grown = compile(lambda x: x * 2, torch.randn(4, 3), dynamic_shapes=((({0: torch.export.Dim("n", min=0)}),),))
        self.assertEqual(grown(torch.randn(7, 3)).shape, (7, 3))

    def test_outputs_are_ordinary_tensors(self):
        program = compile(lambda x: (x.t() + 1, x + 1), torch.randn(4, 5))
        transposed, plain = program(torch.randn(4, 5))
        self.assertEqual(transposed.stride(), (1, 5))
        plain.resize_(100).fill_(3)
        self.assertEqual(plain.sum().item(), 300)
        transposed.add_(1)
        self.assertFalse(transposed.requires_grad)
        del transposed, plain

    def test_conjugate_and_negative_views(self):
        x = torch.randn(5, dtype=torch.complex64)
        program = compile(lambda r: r * 2 + 1, torch.randn(5))
        negative = x.conj().imag
        self.assertTrue(negative.is_neg())
        torch.testing.assert_close(program(negative), negative * 2 + 1)

    def test_requires_grad(self):
        program = compile(lambda x: x * 2, torch.randn(3))
        x = torch.randn(3, requires_grad=True)
        with self.assertRaisesRegex(toroid.InputError, "input 0 .*requires grad"):
            program(x)
        with torch.no_grad():
            torch.testing.assert_close(program(x), x * 2)
        with torch.inference_mode():
            torch.testing.assert_close(program(x), x * 2)
        torch.testing.assert_close(program(nn.Parameter(torch.ones(3), requires_grad=False)), torch.full((3,), 2.0))

    def test_sizes_and_constants(self):
        def f(x, n, k, mode):
            return x[:, :1].expand(x.shape[0], n) * k, n + 1

        exported = export(f, (torch.randn(4, 5), 3, 2.5, "up"),
                          dynamic_shapes=(({0: DYNAMIC}, DYNAMIC, None, None),))
        program = toroid.compile(exported)
        for n in (3, 8):
            x = torch.randn(6, 5)
            self.assert_same(program(x, n, 2.5, "up"), f(x, n, 2.5, "up"))
        for args, text in (((x, 3.0, 2.5, "up"), "must be an int"), ((x, True, 2.5, "up"), "must be an int"),
                           ((x, 3, 2.0, "up"), "exported for 2.5"), ((x, 3, 2.5, "down"), "exported for 'up'")):
            with self.assertRaises(toroid.InputError) as raised:
                program(*args)
            self.assertIn(text, str(raised.exception))

    def test_dtypes(self):
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32,
                      torch.int16, torch.int8, torch.uint8, torch.bool):
            x = torch.tensor([0, 1, 2, 3]).to(dtype)
            program = compile(lambda x: (x, x.clone(), x == x[:1]), x)
            got = program(x)
            self.assertEqual([g.dtype for g in got], [dtype, dtype, torch.bool])
            torch.testing.assert_close(got[1], x)
        with self.assertRaisesRegex(toroid.InputError, r"input 0 \(`\w+`\): dtype is f32, must be bool"):
            program(torch.randn(4))

    def test_results_that_are_views_of_an_argument(self):
        program = compile(lambda x: (x, x.t(), x[1:, 2:], x.view(-1), x + 1), torch.randn(4, 6))
        x = torch.randn(4, 6)
        got = program(x)
        self.assert_same(got, (x, x.t(), x[1:, 2:], x.view(-1), x + 1))
        x.fill_(7)
        for view in got[:4]:
            self.assertTrue((view == 7).all())
        self.assertFalse((got[4] == 7).any())
        shifted = torch.randn(100)[3:27].view(4, 6)
        self.assert_same(program(shifted)[2], shifted[1:, 2:])
        with self.assertRaisesRegex(toroid.InputError, "a result is a view of it, so its stride 0 must be 6"):
            program(torch.randn(6, 4).t())

    def test_written_arguments(self):
        def f(x, y):
            x.add_(y)
            y.mul_(2)
            return x.sum()

        program = compile(f, torch.randn(4, 5), torch.randn(5))
        base = torch.randn(8, 10)
        for pick in (lambda b: b[:4, :5], lambda b: b[::2, ::2], lambda b: b.t()[:4, :5]):
            a, b, y, z = base.clone(), base.clone(), torch.randn(5), None
            z = y.clone()
            version = y._version
            torch.testing.assert_close(program(pick(a), y), f(pick(b), z))
            torch.testing.assert_close(a, b)
            torch.testing.assert_close(y, z)
            self.assertGreater(y._version, version)

    def test_buffers_that_the_program_writes(self):
        class Counter(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("n", torch.zeros(3))

            def forward(self, x):
                self.n.add_(1)
                return x * self.n

        program = compile(Counter(), torch.ones(3))
        self.assertEqual([program(torch.ones(3)).sum().item() for _ in range(3)], [3, 6, 9])

    def test_wrong_inputs(self):
        program = compile(lambda x, y: x + y, torch.randn(4, 5), torch.randn(5), dynamic_shapes=(({0: DYNAMIC}, None),))
        x, y = torch.randn(4, 5), torch.randn(5)
        for args, text in (((x, torch.randn(6)), "input 1"), ((x.double(), y), "dtype is f64, must be f32"),
                           ((x[0], y), "input 0"), ((x.to_sparse(), y), "input 0"), ((x.to("meta"), y), "input 0"),
                           ((None, y), "`NoneType`"), (([x], y), "`list`")):
            with self.assertRaises(toroid.InputError) as raised:
                program(*args)
            self.assertIn(text, str(raised.exception))
            self.assertIsInstance(raised.exception, ValueError)
        from torch._subclasses.fake_tensor import FakeTensorMode
        with FakeTensorMode():
            fake = torch.randn(5)
        with self.assertRaisesRegex(toroid.InputError, "`FakeTensor` cannot be borrowed"):
            program(x, fake)

    def test_threads(self):
        program = compile(lambda x: torch.softmax(x @ x.t(), -1), torch.randn(64, 32))
        inputs = [torch.randn(64, 32) for _ in range(8)]
        want = [program(x) for x in inputs]
        wrong = []

        def work(i):
            for _ in range(50):
                if not torch.equal(program(inputs[i]), want[i]):
                    wrong.append(i)

        workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(wrong, [])

    def test_references(self):
        program = compile(lambda x, y: (x + y, x), torch.randn(4), torch.randn(4))
        x, y = torch.randn(4), torch.randn(4)

        def both():
            program(x, y)
            try:
                program(x, None)
            except toroid.InputError:
                return
            self.fail("taken: None in place of a tensor")

        both()
        gc.collect()
        before = [sys.getrefcount(v) for v in (x, y, None)]
        for _ in range(1000):
            both()
        gc.collect()
        after = [sys.getrefcount(v) for v in (x, y, None)]
        self.assertEqual(before[:2], after[:2])
        self.assertLess(abs(after[2] - before[2]), 100)

    def test_arrays(self):
        program = compile(lambda x, i: (x[:, ::2] * 2, i + 1, x > 0), torch.randn(4, 6), torch.arange(3))
        x, i = np.random.randn(4, 6).astype(np.float32), np.arange(3)
        for given in (x, np.asfortranarray(x), x[::-1], x[:, ::-1]):
            doubled, one_more, positive = program(given, i)
            self.assertIsInstance(doubled, np.ndarray)
            np.testing.assert_allclose(doubled, given[:, ::2] * 2)
            np.testing.assert_array_equal(one_more, i + 1)
            np.testing.assert_array_equal(positive, given > 0)
        with self.assertRaisesRegex(toroid.InputError, "input 0"):
            program(x.astype(">f4"), i)
        self.assertIsInstance(program(torch.from_numpy(x), i)[0], torch.Tensor)

    def test_without_torch(self):
        model, args, exported = self.nested()
        given = args(5)
        with torch.no_grad():
            want = model(*given, scale=torch.tensor(0.5))
        with tempfile.TemporaryDirectory() as folder:
            toroid.compile(exported).save(f"{folder}/m.pt2")
            np.savez(f"{folder}/in.npz", a=given[0]["a"], b=given[0]["b"][0], c=given[1][0], d=given[1][1])
            np.savez(f"{folder}/out.npz", y=want["y"].numpy(), p=want["parts"][1][0].numpy())
            script = """if True:
                import sys
                sys.modules["torch"] = None
                import numpy as np, toroid
                v, want = np.load("in.npz"), np.load("out.npz")
                out = toroid.load("m.pt2")({"a": v["a"], "b": [v["b"]]}, (v["c"], v["d"]),
                                           scale=np.float32(0.5).reshape(()), flag=True)
                np.testing.assert_allclose(out["y"], want["y"], rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(out["parts"][1][0], want["p"])
                assert out["n"] == 5 and out["flag"] is True and out["none"] is None
            """
            path = os.path.dirname(os.path.dirname(os.path.abspath(toroid.__file__)))
            subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, env={**os.environ, "PYTHONPATH": path})

    def test_other_strides_than_the_exports(self):
        layouts = [
            (lambda: torch.randn(8)[::2], (4,)), (lambda: torch.randn(8, 8)[::2], (4, 8)),
            (lambda: torch.randn(8, 8)[:, ::2], (8, 4)), (lambda: torch.randn(4, 6).t(), (6, 4)),
        ]
        for make, sizes in layouts:
            program = compile(lambda x: x * 2 + 1, make())
            for x in (make(), torch.randn(sizes), torch.randn(sizes[::-1]).t(), torch.randn(*sizes, 3)[..., 1]):
                torch.testing.assert_close(program(x), x * 2 + 1)
        program = compile(lambda x: x * 2 + 1, torch.randn(8, 1).expand(8, 4))
        for x in (torch.randn(8, 4), torch.randn(8, 1).expand(8, 4), torch.randn(1, 4).expand(8, 4)):
            torch.testing.assert_close(program(x), x * 2 + 1)


if __name__ == "__main__":
    unittest.main()
