"""Models with ops of a plug-in (examples/plugin) beside PyTorch: in-place writes to whole tensors, slices and buffers, as
torch.export gives them and after run_decompositions; in our runtime and in PyTorch's loader.

    plugin_test.py --toroid build/bin/toroid
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(root, "examples", "plugin"))
import example


class Writes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = example.Model()
        self.register_buffer("total", torch.zeros(4, 6))

    def forward(self, x):
        doubled, turned = self.inner(x)
        z = torch.zeros(8, 6)
        example.accumulate_(z[2:6], self.total + 1)
        example.accumulate_(self.total, z[2:6])
        return doubled, turned, z


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--toroid", required=True)
    toroid = os.path.abspath(parser.parse_args().toroid)
    with tempfile.TemporaryDirectory() as folder:
        plugin = os.path.join(folder, "libthreshold.so")
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-std=c11", "-I", os.path.join(root, "include"),
                        os.path.join(root, "examples", "plugin", "threshold.c"), "-o", plugin], check=True)
        rows = torch.export.Dim("rows", min=1, max=100)
        for name, make, decomposed in [("model", example.Model, False), ("writes", Writes, False), ("decomposed", Writes, True)]:
            torch.manual_seed(0)
            model, x = make().eval(), torch.randn(10, 8)
            with torch.no_grad():
                program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: 2 * rows}})
                if decomposed:
                    program = program.run_decompositions({})
                archive, package = os.path.join(folder, name + ".pt2"), os.path.join(folder, name + ".toroid.pt2")
                torch.export.save(program, archive)
                x = torch.randn(14, 8)  # another size than the export's
                want = model(x)
            subprocess.run([toroid, "compile", archive, "-o", package, "--plugin", plugin], check=True)
            np.savez(os.path.join(folder, "in.npz"), arg0=x.numpy())
            out = os.path.join(folder, "out.npz")
            subprocess.run([toroid, "run", package, "--plugin", plugin, "--inputs", os.path.join(folder, "in.npz"), "--outputs", out],
                           check=True)
            got = np.load(out)
            for i, y in enumerate(want):
                np.testing.assert_allclose(got[f"out{i}"], y.numpy(), rtol=1e-5, atol=1e-6)
            # PyTorch's loader takes plug-ins from the environment; in a process that has none it refuses the package.
            code = ("import sys, numpy, torch\nm = torch._inductor.aoti_load_package(sys.argv[1])\n"
                    "y = m(torch.from_numpy(numpy.load(sys.argv[2])['arg0']))\n"
                    "numpy.savez(sys.argv[3], **{f'out{i}': t.numpy() for i, t in enumerate(y)})")
            command = [sys.executable, "-c", code, package, os.path.join(folder, "in.npz"), out]
            subprocess.run(command, check=True, env={**os.environ, "TOROID_PLUGINS": plugin})
            got = np.load(out)
            for i, y in enumerate(want):
                np.testing.assert_allclose(got[f"out{i}"], y.numpy(), rtol=1e-5, atol=1e-6)
            missing = subprocess.run(command, capture_output=True, text=True)
            said = missing.stdout + missing.stderr
            assert missing.returncode != 0 and "plug-in that is not loaded" in said, said
            print(f"{name}: right in both hosts")
        # What the shape function refuses is said with the place in the model.
        with torch.no_grad():
            program = torch.export.export(example.Model().double().eval(), (torch.randn(10, 8).double(),))
        archive = os.path.join(folder, "double.pt2")
        torch.export.save(program, archive)
        refused = subprocess.run([toroid, "compile", archive, "--plugin", plugin], capture_output=True, text=True)
        assert refused.returncode == 1 and "x must be float32" in refused.stderr, refused.stderr


if __name__ == "__main__":
    main()
