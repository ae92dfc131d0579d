"""toroid.load_plugin: an exported program with ops of a plug-in, compiled in the process and loaded from a file."""
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import toroid

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(root, "examples", "plugin"))
import example


def test_ops_of_a_plugin(tmp_path):
    model, x = example.Model().eval(), torch.randn(10, 8)
    with torch.no_grad():
        program, want = torch.export.export(model, (x,)), model(x)
    with pytest.raises(toroid.UnsupportedError) as missing:
        toroid.compile(program)
    assert "threshold.soft_pairs.default" in {op.op for op in missing.value.ops}
    plugin = tmp_path / "libthreshold.so"
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-std=c11", "-I", os.path.join(root, "include"),
                    os.path.join(root, "examples", "plugin", "threshold.c"), "-o", plugin], check=True)
    toroid.load_plugin(plugin)
    compiled = toroid.compile(program)
    compiled.save(tmp_path / "m.pt2")
    for call in (compiled, toroid.load(tmp_path / "m.pt2")):
        for got, expected in zip(call(x), want, strict=True):
            np.testing.assert_allclose(got.detach().numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(toroid.Error, match="cannot load the plug-in"):
        toroid.load_plugin(tmp_path / "none.so")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
