"""Exports a model with its inputs, eager's outputs and a float64 reference; runs it through Toroid; compares."""
import copy
import inspect
import json
import os
import subprocess
import time
import warnings

import numpy as np
import torch
import torch.utils._pytree as pytree

import zoo_small  # noqa: F401: more models of the zoo
from zoo import ZOO

# Export warns of what it does to modules that it knows (nn.LSTM).
warnings.filterwarnings("ignore", category=UserWarning)


class Wrong(AssertionError):
    """the outputs, or the program, are not as they should be"""


def leaves(tree):
    return [t for t in pytree.tree_leaves(tree) if t is not None]


def arrays(tree):
    return [t.detach().contiguous().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in leaves(tree)]


def run_eager(module, args):
    """outputs as arrays; what the module writes to inputs and buffers is undone"""
    args = pytree.tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, args)
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    with torch.no_grad():
        out = [np.array(a) for a in arrays(module(*args))]
        for buffer, old in before:
            buffer.copy_(old)
    return out


def export(model, dynamic):
    args = model.inputs(**model.sizes)
    shapes = None
    if dynamic:
        dims = {name: torch.export.Dim(name, min=low, max=high) for name, (low, high) in model.ranges.items()}
        shapes = model.dims(**dims)
        parameters = list(inspect.signature(model.module.forward).parameters.values())
        if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
            shapes = {parameters[0].name: tuple(shapes)}
        else:
            shapes = dict(zip([p.name for p in parameters], shapes))
    with torch.no_grad():
        try:
            return torch.export.export(model.module, args, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            if not dynamic or "onstraint" not in str(error):
                raise
            # What export cannot prove over the whole range stays as an assertion at run time.
            return torch.export.export(model.module, args, dynamic_shapes=shapes, strict=False,
                                       prefer_deferred_runtime_asserts_over_guards=True)


class Exported:
    """the files of one export: STEM.pt2, STEM.json, and STEM.in0.npz, out0, ref0 and so on for each case"""

    def __init__(self, name, folder, dynamic, build=None, reference=True):
        """build: makes the Model, where it is none of the zoo's; reference: whether to run it in float64 too"""
        self.name, self.dynamic, self.model, self.reference = name, dynamic, build or ZOO[name], reference
        self.stem = os.path.join(folder, name + (".dynamic" if dynamic else ""))
        if not os.path.exists(self.stem + ".json"):
            os.makedirs(folder, exist_ok=True)
            self._write(self.model())
        with open(self.stem + ".json") as f:
            self.info = json.load(f)

    @property
    def archive(self):
        return self.stem + ".pt2"

    def load(self, kind, case):
        """arrays arg0, arg1, … or out0, out1, … of a case"""
        with np.load(f"{self.stem}.{kind}{case}.npz") as z:
            return [z[f"{'arg' if kind == 'in' else 'out'}{i}"] for i in range(len(z.files))]

    def args(self, case):
        return [torch.from_numpy(a) for a in self.load("in", case)]

    def _write(self, model):
        program = export(model, self.dynamic)
        torch.export.save(program, self.archive)
        cases = [model.sizes] + ([{**model.sizes, **v} for v in model.variants] if self.dynamic else [])
        double, distances = None, []
        if self.reference and model.dtype == "float32" and model.doubles:
            double = copy.deepcopy(model.module).double()
        for i, sizes in enumerate(cases):
            args = model.inputs(**sizes)
            np.savez(f"{self.stem}.in{i}.npz", **{f"arg{j}": a for j, a in enumerate(arrays(args))})
            outs = run_eager(model.module, args)
            np.savez(f"{self.stem}.out{i}.npz", **{f"out{j}": a for j, a in enumerate(outs)})
            if double is not None:
                wide = pytree.tree_map(lambda t: t.double() if t.is_floating_point() else t, args)
                reference = run_eager(double, wide)
                np.savez(f"{self.stem}.ref{i}.npz", **{f"out{j}": a for j, a in enumerate(reference)})
                # One run is one draw of rounding errors; eager without oneDNN is another of the same program.
                with torch.backends.mkldnn.flags(enabled=False):
                    plain = run_eager(model.module, args)
                distances.append([max(distance(e, r), distance(p, r)) for e, p, r in zip(outs, plain, reference)])
        info = {"cases": cases, "tolerance": model.tolerance, "dtype": model.dtype, "has_reference": double is not None,
                "eager_distance": [max(d) for d in zip(*distances)],
                "parameters": sum(p.numel() for p in model.module.parameters())}
        with open(self.stem + ".json", "w") as f:
            json.dump(info, f)


def distance(got, reference):
    """the largest difference from a float64 reference, NaN and infinities aside"""
    difference = np.abs(got.astype(np.float64) - reference.astype(np.float64))
    return float(np.nan_to_num(difference, nan=0.0, posinf=0.0).max(initial=0))


def compare(got, want, tolerance, distances=()):
    """the largest error over the largest magnitude; raises Wrong

    Where eager itself lies `distances` (an output each) from float64, ours may lie twice as far on the other side.
    """
    if len(got) != len(want):
        raise Wrong(f"{len(got)} outputs, expected {len(want)}")
    worst = 0.0
    for i, (g, w) in enumerate(zip(got, want)):
        if g.shape != w.shape or g.dtype != w.dtype:
            raise Wrong(f"out{i} is {g.dtype}{list(g.shape)}, expected {w.dtype}{list(w.shape)}")
        if w.dtype.kind not in "fc":
            if not np.array_equal(g, w):
                raise Wrong(f"out{i}: {int((g != w).sum())} of {w.size} values differ")
            continue
        finite = np.isfinite(w)
        if not np.array_equal(np.isfinite(g), finite):
            raise Wrong(f"out{i}: other values are infinite or NaN")
        if finite.any():
            scale = max(float(np.abs(w[finite]).max()), 1e-6)
            error = float(np.abs(g[finite] - w[finite]).max()) / scale
            allowed = max(tolerance, 3 * distances[i] / scale if i < len(distances) else 0.0)
            if error > allowed:
                raise Wrong(f"error {error:.3g} of the largest magnitude, allowed {allowed:g}")
            worst = max(worst, error)
    return worst


def compare_with_reference(got, reference, distances):
    """our distance from float64 over eager's; above 2, plus one ulp of the largest value, raises Wrong

    Eager's is the largest over the model's cases, since one case's may be small by luck.
    """
    worst = 0.0
    for g, r, theirs in zip(got, reference, distances):
        if g.dtype != np.float32 or not np.isfinite(r).all():
            continue
        ours = distance(g, r)
        if ours > 2 * theirs + float(np.spacing(np.float32(np.abs(r).max(initial=0)))):
            raise Wrong(f"distance from float64 {ours:.3g}, eager's {theirs:.3g}")
        if theirs:
            worst = max(worst, ours / theirs)
    return worst


def command(*words):
    """runs a program; its standard output, or Wrong with what it said"""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode:
        raise Wrong(f"{' '.join(map(str, words[1:3]))}: exit code {done.returncode}: {done.stderr.strip()[:1500]}")
    return done.stdout


class Compiled:
    """a package that the command line made of an export"""

    def __init__(self, toroid, exported, *options, cold=False, package=None):
        self.toroid, self.exported = toroid, exported
        self.package = package or exported.stem + ".toroid.pt2"
        start = time.monotonic()
        command(toroid, "compile", exported.archive, "-o", self.package, *options, *(["--no-cache"] if cold else []))
        self.seconds = time.monotonic() - start

    def run(self, case, threads=0):
        out = f"{self.exported.stem}.got{case}.npz"
        command(self.toroid, "run", self.package, "--inputs", f"{self.exported.stem}.in{case}.npz", "--outputs", out,
                "--threads", threads)
        with np.load(out) as z:
            return [z[f"out{i}"] for i in range(len(z.files))]

    def check(self, case):
        """(error, distance ratio) of one case"""
        e = self.exported
        got, want = self.run(case), e.load("out", case)
        distances = e.info["eager_distance"]
        error = compare(got, want, e.info["tolerance"], distances)
        ratio = compare_with_reference(got, e.load("ref", case), distances) if e.info["has_reference"] else 0.0
        return error, ratio

    def check_in_torch(self, runners=2):
        """the same package in PyTorch's own loader: every case, then two threads at once"""
        from concurrent.futures import ThreadPoolExecutor

        from torch._inductor.package import load_package

        e = self.exported
        runner = load_package(self.package, num_runners=runners)

        def once(case):
            with torch.no_grad():
                return compare(arrays(runner(*e.args(case))), e.load("out", case), e.info["tolerance"],
                               e.info["eager_distance"])

        for case in range(len(e.info["cases"])):
            once(case)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(once, [0] * 8))

    def bench(self, case=0, seconds=2, threads=0):
        text = command(self.toroid, "bench", self.package, "--inputs", f"{self.exported.stem}.in{case}.npz", "--json",
                       "--seconds", seconds, "--threads", threads)
        return json.loads(text)
