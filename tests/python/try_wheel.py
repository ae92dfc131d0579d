"""Takes a folder with digits.pt2, inputs.npz and outputs.npz; compiles and runs it with the installed package alone, by the
`toroid` command and in process. Neither this tree nor PyTorch is needed."""
import os
import subprocess
import sys

import numpy as np
import toroid

folder = sys.argv[1]
inputs, wanted = np.load(f"{folder}/inputs.npz"), np.load(f"{folder}/outputs.npz")
arguments = [inputs[f"arg{i}"] for i in range(len(inputs))]


def check(results, how):
    leaves = results if isinstance(results, (tuple, list)) else [results]
    for i, leaf in enumerate(leaves):
        np.testing.assert_allclose(leaf, wanted[f"out{i}"], rtol=1e-4, atol=1e-5)
    print(f"{how}: {len(leaves)} results as PyTorch's, {toroid.__file__}")


print(subprocess.run(["toroid", "--version"], check=True, capture_output=True, text=True).stdout.strip())
subprocess.run(["toroid", "compile", f"{folder}/digits.pt2", "-o", "command.pt2"], check=True)
check(toroid.load("command.pt2")(*arguments), "the command's package")
program = toroid.compile(f"{folder}/digits.pt2", cache_folder="")
check(program(*arguments), "toroid.compile")
program.save("process.pt2")
subprocess.run(["toroid", "run", "process.pt2", "--inputs", f"{folder}/inputs.npz", "--outputs", "out.npz"], check=True)
check(list(np.load("out.npz").values()), "the command on a package of toroid.compile")
assert "torch" not in sys.modules
if any(os.path.exists(os.path.join(path, "torch")) for path in sys.path):
    sys.exit("this environment holds PyTorch, so the trial shows less than it should")
