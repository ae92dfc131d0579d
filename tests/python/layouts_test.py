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
    def setUp(self):
        torch.manual_seed(0)

    def check(self, function, *args, dims=None, others=(), **options):
        shapes = {"args": tuple(dims)} if dims else None
        with torch.no_grad():
            program = toroid.compile(torch.export.export(Function(function), args, strict=False, dynamic_shapes=shapes,
                                                         kwargs={}), **options)
        for given in (args, *others):
            torch.testing.assert_close(program(*given), function(*given), rtol=1e-5, atol=1e-5)

    # Traced dropout is a clone, and what comes after is claimed with the clone's strides.
    def test_dropout_of_what_is_expanded(self):
        self.check(lambda x: F.dropout(x[:, None].expand(-1, 3, -1), 0.5, False).to(torch.float32) * 2, torch.randn(5, 4))
        self.check(lambda x: F.dropout(x[:, ::2], 0.5, False).to(torch.float32) * 2, torch.randn(5, 4))

    # A transposed slice has row-major format for `to`, which therefore copies nothing.
    def test_formats_of_what_has_gaps(self):
        x = torch.randn(2, 16, 4, 9)
        for memory_format in (torch.contiguous_format, torch.channels_last, torch.preserve_format):
            self.check(lambda x: x[..., :6].transpose(1, 2).to(torch.float32, memory_format=memory_format) * 2, x)
            self.check(lambda x: x.to(torch.float32, memory_format=memory_format) * 2,
                       x.contiguous(memory_format=torch.channels_last))

    # s * s is known to be larger than s, so that the order of these dims is.
    def test_order_of_dims_of_unknown_sizes(self):
        def function(x, table):
            bias = F.embedding(torch.arange(x.shape[-1])[:, None] % 3 + torch.zeros_like(x[0, 0], dtype=torch.int64), table)
            return x + bias.permute(2, 0, 1)[None]
        table = torch.randn(3, 4)
        self.check(function, torch.randn(2, 4, 5, 5), table, dims=[{0: AUTO, 2: AUTO, 3: AUTO}, None],
                   others=[(torch.randn(3, 4, 9, 9), table)])

    # Chunks of a padded sequence, as Mamba2 cuts them: nothing shows that their sizes multiply to its length.
    def test_views_of_sizes_that_divide(self):
        def function(x):
            y = F.pad(x, (0, 0, 0, -x.shape[1] % 8)).transpose(1, 2).contiguous().transpose(1, 2)
            return y.reshape(y.shape[0], -1, 8, 6).cumsum(2) + 1
        self.check(function, torch.randn(2, 13, 6), dims=[{0: AUTO, 1: AUTO}], others=[(torch.randn(3, 40, 6),)])

    def test_floats_up_to_a_size(self):
        def function(x):
            n = x.shape[0]
            return torch.arange(n, -n, -1.0), torch.arange(0.0, 2 * n, 2)
        self.check(function, torch.randn(5), dims=[{0: AUTO}], others=[(torch.randn(8),)])

    # Each offset in the arena is a sum of the slots before it: they have names in the wrapper.
    def test_many_temporaries_of_long_sizes(self):
        def function(x):
            parts = [F.pad(x.abs() * k, (0, (-x.shape[0]) % (8 + k))).sort().values for k in range(1, 13)]
            return torch.stack([(p.cumsum(0) * p.flip(0)).mean() / 100 for p in parts])
        with tempfile.TemporaryDirectory() as folder:
            self.check(function, torch.randn(50), dims=[{0: AUTO}], others=[(torch.randn(33),), (torch.randn(1000),)],
                       dump_folder=folder)
            text = pathlib.Path(folder, "06-emit", "wrapper.cpp").read_text()
        self.assertIn("const i64 part0 = ", text)
        self.assertLess(max(map(len, text[text.index("run_model("):text.index("TdSlot inputs")].splitlines())), 2000)

    # Of a real signal: -0 beside a negative number would turn its angle.
    def test_angles_of_real_spectra(self):
        x = torch.randn(3, 16)
        edges = lambda z: z[..., [0, -1]].angle()
        self.check(lambda x: (edges(torch.fft.rfft(x)), edges(torch.fft.rfft2(x)[:, 1:]) * 0), x)
        self.check(lambda x: torch.stft(x, 8, 4, 8, torch.ones(8), return_complex=True)[:, [0, -1]].angle(), x)


if __name__ == "__main__":
    unittest.main()
