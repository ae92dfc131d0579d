"""Programs whose tensors lie otherwise than row-major, compiled in this process, beside eager PyTorch; some
with sizes that are only known at each call."""
import pathlib
import tempfile
import unittest

import torch
import torch.nn.functional as F

import toroid
from functions import Function

AUTO = torch.export.Dim.AUTO


class Layouts(unittest.TestCase):
    def check(self, function, *args, dims=None, others=(), **options):
        shapes = {"args": tuple(dims)} if dims else None
        with torch.no_grad():
            program = toroid.compile(torch.export.export(Function(function), args, strict=False, dynamic_shapes=shapes,
                                                         kwargs={}), **options)
        for given in (args, *others):
            torch.testing.assert_close(program(*given), function(*given), rtol=1e-5, atol=1e-5)

    # s * s is known to be larger than s, so that the order of these dims is.
    def test_order_of_dims_of_unknown_sizes(self):
        def function(x, table):
            bias = F.embedding(torch.arange(x.shape[-1])[:, None] % 3 + torch.zeros_like(x[0, 0], dtype=torch.int64), table)
            return x + bias.permute(2, 0, 1)[None]
        table = torch.randn(3, 4)
        self.check(function, torch.randn(2, 4, 5, 5), table, dims=[{0: AUTO, 2: AUTO, 3: AUTO}, None],
                   others=[(torch.randn(3, 4, 9, 9), table)])

    # Each offset in the arena is a sum of the slots before it: they have names in the wrapper.
    def test_many_temporaries_of_long_sizes(self):
        def function(x):
            parts = [F.pad(x * k, (0, (-x.shape[0]) % (8 + k))).sort().values for k in range(1, 13)]
            return torch.stack([(p.cumsum(0) * p.flip(0)).mean() / 100 for p in parts])
        with tempfile.TemporaryDirectory() as folder:
            self.check(function, torch.randn(50), dims=[{0: AUTO}], others=[(torch.randn(33),), (torch.randn(1000),)],
                       dump_folder=folder)
            text = pathlib.Path(folder, "06-emit", "wrapper.cpp").read_text()
        self.assertIn("const i64 part0 = ", text)
        self.assertLess(max(map(len, text[text.index("run_model("):text.index("TdSlot inputs")].splitlines())), 2000)


if __name__ == "__main__":
    unittest.main()
