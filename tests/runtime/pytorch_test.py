"""The tiny packages of load_test.cpp inside PyTorch's own loader.

    pytorch_test.py --test-program build/bin/test_whole

Loads without warnings, runs, reports errors, replaces, swaps and reads back constants, runs from two threads with two
runners.
"""
import argparse, os, subprocess, sys, tempfile, threading, warnings, zipfile

import torch
from torch._inductor.package import load_package


def expect(x, w, b, s):
    return torch.relu(x @ w.T + b) + b * s


def weights():
    i = torch.arange(32)
    return (i % 9 / 8 - 0.5).reshape(8, 4), torch.arange(8) / 2 - 1, torch.arange(8) + 1.0


def close(a, b):
    return torch.allclose(a, b, rtol=1e-6, atol=1e-6)


def check_runs(folder):
    w, b, s = weights()
    model = torch._inductor.aoti_load_package(f"{folder}/tiny.pt2")
    for rows in (1, 3, 4096):
        x = torch.randn(rows, 4)
        assert close(model(x), expect(x, w, b, s))
    x = torch.randn(4, 7).T
    assert close(model(x), expect(x, w, b, s)), "a transposed input"
    x = torch.randn(5, 9)[:, 2:6]
    assert close(model(x), expect(x, w, b, s)), "a slice"
    assert model.get_metadata()["TOROID_TARGET"] == "x86-64"
    return model


def check_errors(model):
    cases = [
        (torch.randn(4097, 4), "input 0 (`x`): size 0 is 4097, must be in 1..4096"),
        (torch.randn(3, 5), "input 0 (`x`): size 1 is 5, must be 4"),
        (torch.randn(3, 4).double(), "input 0 (`x`): dtype is f64, must be f32"),
        (torch.randn(4), "input 0 (`x`): rank is 1, must be 2"),
        (torch.randn(13, 4), "assertion failed: 13 is unlucky"),
    ]
    for x, text in cases:
        try:
            model(x)
        except RuntimeError as error:
            assert text in str(error), error
        else:
            raise AssertionError(f"no error where `{text}` was expected")


def check_constants(folder):
    w, b, s = weights()
    x = torch.randn(6, 4)
    model = torch._inductor.aoti_load_package(f"{folder}/tiny.pt2")
    assert sorted(model.get_constant_fqns()) == ["calls", "fc.bias", "fc.weight", "scale"], model.get_constant_fqns()
    w2, b2, s2 = torch.randn(8, 4), torch.randn(8), torch.randn(8)
    model.load_constants({"fc.weight": w2}, check_full_update=False)
    assert close(model(x), expect(x, w2, b, s))
    model.load_constants({"scale": s2}, check_full_update=False)
    assert close(model(x), expect(x, w2, b, s2))
    try:
        model.load_constants({"fc.bias": b2}, check_full_update=False)
    except RuntimeError:
        pass  # PyTorch does not ask for the text of a failed update
    else:
        raise AssertionError("half of a folded pair was replaced")
    assert close(model(x), expect(x, w2, b, s2)), "a refused update changed something"
    full = {"fc.weight": w2.T.contiguous().T, "fc.bias": b2, "scale": torch.randn(16)[::2], "calls": torch.zeros(1)}
    model.load_constants(full, check_full_update=True)
    assert close(model(x), expect(x, w2, b2, full["scale"])), "strided constants"
    model.load_constants(full, check_full_update=True, user_managed=True)
    try:
        model.load_constants({"fc.bias": b2}, check_full_update=True)
    except RuntimeError:
        pass
    else:
        raise AssertionError("an incomplete full update passed")
    # Another handle of the same package is untouched.
    assert close(torch._inductor.aoti_load_package(f"{folder}/tiny.pt2")(x), expect(x, w, b, s))


def check_loader(folder):
    """What only the bare loader offers: the inactive buffer, swapping, run_single_threaded."""
    w, b, s = weights()
    x = torch.randn(6, 4)
    loader = torch._C._aoti.AOTIModelPackageLoader(f"{folder}/tiny.pt2", "model", True, 1, -1)
    assert close(loader.boxed_run([x])[0], expect(x, w, b, s))
    # The runner takes the shared object itself, with weights.bin beside it.
    with zipfile.ZipFile(f"{folder}/tiny.pt2") as archive:
        archive.extractall(f"{folder}/extracted")
    shared_object = f"{folder}/extracted/tiny/data/aotinductor/model/m.wrapper.so"
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu(shared_object, 2)
    assert close(runner.run([x])[0], expect(x, w, b, s))
    w2 = torch.randn(8, 4)
    runner.update_constant_buffer({"fc_weight": w2}, True, False)
    assert close(runner.run([x])[0], expect(x, w, b, s)), "an inactive update changed the active constants"
    runner.swap_constant_buffer()
    assert close(runner.run([x])[0], expect(x, w2, b, s))
    runner.free_inactive_constant_buffer()
    try:
        runner.swap_constant_buffer()
    except RuntimeError:
        pass
    else:
        raise AssertionError("swapped to constants that were freed")
    assert close(runner.run([x])[0], expect(x, w2, b, s))
    w3 = torch.randn(8, 4)
    runner.update_constant_buffer({"fc_weight": w3}, True, False)
    runner.swap_constant_buffer()
    assert close(runner.run([x])[0], expect(x, w3, b, s))
    try:
        runner.extract_constants_map(False)
    except RuntimeError:
        pass  # `scale` was folded into another constant
    else:
        raise AssertionError("a folded constant was read back")


def check_extraction(folder):
    w, b, s = weights()
    with zipfile.ZipFile(f"{folder}/counting.pt2") as archive:
        archive.extractall(f"{folder}/counting")
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu(f"{folder}/counting/tiny/data/aotinductor/model/m.wrapper.so", 1)
    runner.run([torch.randn(6, 4)])
    runner.run([torch.randn(6, 4)])
    active = runner.extract_constants_map(False)
    assert torch.equal(active["fc.weight"], w) and torch.equal(active["fc.bias"], b) and torch.equal(active["scale"], s)
    assert active["calls"].item() == 2
    w2 = torch.randn(8, 4)
    runner.update_constant_buffer({"fc_weight": w2}, True, False)
    inactive = runner.extract_constants_map(True)
    assert torch.equal(inactive["fc.weight"], w2) and inactive["calls"].item() == 2
    assert torch.equal(runner.extract_constants_map(False)["fc.weight"], w)


def check_threads(folder):
    w, b, s = weights()
    model = load_package(f"{folder}/tiny.pt2", num_runners=2)
    wrong = []

    def work(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(300):
            x = torch.randn(64, 4, generator=generator)
            if not close(model(x), expect(x, w, b, s)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def check_mutation(folder):
    w, b, s = weights()
    x = torch.randn(2, 4)
    model = load_package(f"{folder}/counting.pt2", num_runners=2)
    base = expect(x, w, b, s)[0, 0]
    for run in (1, 2, 3):
        assert abs(model(x)[0, 0] - base - run) < 1e-5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--test-program", required=True)
    parser.add_argument("--child", help="the folder with the packages")
    args = parser.parse_args()
    if args.child:
        warnings.simplefilter("error")
        model = check_runs(args.child)
        check_errors(model)
        check_constants(args.child)
        check_loader(args.child)
        check_extraction(args.child)
        check_threads(args.child)
        check_mutation(args.child)
        print("all passed")
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([args.test_program, "--gtest_filter=TinyPackages.write", "--gtest_brief=1"], check=True,
                       env={**os.environ, "TOROID_TINY_FOLDER": folder}, stdout=subprocess.DEVNULL)
        child = subprocess.run([sys.executable, __file__, "--test-program", "-", "--child", folder], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        print(child.stdout, child.stderr, end="")
        assert child.returncode == 0
        # No warning of the loader, no symbol that it misses: nothing at all on stderr.
        assert child.stderr == "", "stderr is not empty"


if __name__ == "__main__":
    main()
