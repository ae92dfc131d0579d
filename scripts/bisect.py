"""Finds the step that makes a model wrong: compiles it with each optional step left out, runs it, and says which omission
mends it.

  ./dev bisect M.pt2 --inputs in.npz --expected out.npz [--toroid build/bin/toroid]

Where none does, the fault is in a step that cannot be left out; then compare stages by `--dump`.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def optional_steps():
    """names of the steps that the pipeline's list marks as optional"""
    with open(os.path.join(root, "src", "driver", "pipeline.cpp")) as f:
        return re.findall(r'\{"(\w+)", Form::\w+, Form::\w+, \w+, true\}', f.read())


def is_right(args, skip):
    """whether the model compiled without these steps gives what is expected; and what was said if not"""
    with tempfile.TemporaryDirectory() as folder:
        package, out = os.path.join(folder, "m.pt2"), os.path.join(folder, "out.npz")
        commands = [
            [args.toroid, "compile", args.model, "-o", package] + (["--skip=" + ",".join(skip)] if skip else []),
            [args.toroid, "run", package, "--inputs", args.inputs, "--outputs", out],
            [sys.executable, os.path.join(root, "examples", "compare.py"), out, args.expected]]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return False, done.stderr.strip().splitlines()[0]
    return True, ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--expected", required=True)
    parser.add_argument("--toroid", default=os.path.join(root, "build", "bin", "toroid"))
    args = parser.parse_args()
    right, why = is_right(args, [])
    if right:
        print("with every step: right")
        return
    print(f"with every step: {why}")
    guilty = []
    for step in optional_steps():
        right, why = is_right(args, [step])
        print(f"without {step}: {'right' if right else why}")
        guilty += [step] * right
    print("guilty: " + (", ".join(guilty) or "none that can be left out"))
    sys.exit(1)


if __name__ == "__main__":
    main()
