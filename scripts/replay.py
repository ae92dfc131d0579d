"""Shows what a change does to generated code: builds another revision, compiles the same models with both, compares every
stage's text and every source.

  ./dev replay REVISION [MODEL.pt2...]        without models: examples/ and what build/zoo holds
"""
import filecmp
import glob
import os
import subprocess
import sys
import tempfile

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def dump(build, model, folder):
    # The sources are in the dump too, a file each.
    subprocess.run([os.path.join(build, "bin", "toroid"), "compile", model, "--to=emit", "--target=x86-64-v4",
                    "--dump=" + folder], stdout=subprocess.DEVNULL, check=True)
    return {os.path.relpath(os.path.join(d, f), folder) for d, _, names in os.walk(folder) for f in names}


def compare(old_build, new_build, model, work):
    """shows how the texts of a model differ between two builds; how many do"""
    different = 0
    old, new = os.path.join(work, "old"), os.path.join(work, "new")
    for name in sorted(dump(old_build, model, old) | dump(new_build, model, new)):
        a, b = os.path.join(old, name), os.path.join(new, name)
        if os.path.exists(a) and os.path.exists(b) and filecmp.cmp(a, b, shallow=False):
            continue
        different += 1
        print(f"---- {os.path.basename(model)}: {name}", flush=True)
        subprocess.run(["diff", "-u", *[p if os.path.exists(p) else os.devnull for p in (a, b)]])
    subprocess.run(["rm", "-rf", old, new], check=True)
    return different


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    models = [os.path.abspath(m) for m in sys.argv[2:]] or sorted(
        glob.glob(os.path.join(root, "examples", "*", "*.pt2")) +
        [m for m in glob.glob(os.path.join(root, "build", "zoo", "**", "*.pt2"), recursive=True) if ".toroid." not in m])
    different = 0
    with tempfile.TemporaryDirectory() as work:
        other = os.path.join(work, "tree")
        subprocess.run(["git", "-C", root, "worktree", "add", "--detach", "-q", other, sys.argv[1]], check=True)
        try:
            for tree in (root, other):
                subprocess.run([os.path.join(tree, "dev"), "build"], check=True)
            for model in models:
                different += compare(os.path.join(other, "build"), os.path.join(root, "build"), model, work)
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", other], check=True)
    print(f"{len(models)} models, {different} different texts")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
