# labels: slow
"""Compares every sample of the op table with eager PyTorch: values, dtypes, sizes, and the strides that a rule claims.

  samples_test.py --op-samples PATH [part of a sample]

Each sample also runs with its tensors transposed in memory (and channels last, for images): values and strides again.
"""
import argparse
import json
import re
import subprocess
import sys

import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed

DTYPES = {
    "f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64,
    "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool, "u64": torch.uint64,
    "c32": torch.complex32, "c64": torch.complex64, "c128": torch.complex128,
}
TENSOR = re.compile(r"\b(%s)\[([0-9, ]*)\](?: strides \[([0-9, ]*)\])?" % "|".join(DTYPES))
# Values that eager leaves undefined.
ANY_VALUES = ("aten.empty", "aten.new_empty")
# Results of these beyond the first ones are for gradients; PyTorch factorises the transpose where that is cheaper.
FIRST_ONLY = {"embedding_bag": 1, "_linalg_det": 1, "_linalg_slogdet": 2}
# Eager reads some arguments of these as if they lay row by row.
ROWS_ONLY = ("_flash_attention_for_cpu", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward")


def numbers(text):
    return [int(x) for x in text.split(",") if x.strip()]


def tensor_of(record, strides):
    dtype = DTYPES[record["dtype"]]
    if dtype.is_complex:
        part = torch.empty(0, dtype=dtype).real.dtype
        parts = torch.tensor(record["values"], dtype=torch.float64).to(part).reshape([*record["sizes"], 2])
        x = torch.view_as_complex(parts)
        return x if strides is None else torch.empty_strided(record["sizes"], strides, dtype=dtype).copy_(x)
    wide = torch.float64 if dtype.is_floating_point else torch.int64
    if dtype is torch.uint64:
        wide = torch.uint64
    x = torch.tensor(record["values"], dtype=wide).to(dtype).reshape(record["sizes"])
    if strides is not None:
        y = torch.empty_strided(record["sizes"], strides, dtype=dtype)
        y.copy_(x)
        return y
    return x


def call_eager(sample, tensors):
    name, args = re.match(r"([\w.]+)\((.*)\)$", sample, re.S).groups()
    namespace, op, overload = name.split(".")
    count = iter(range(len(tensors)))
    args = TENSOR.sub(lambda m: f"T[{next(count)}]", args)
    args = args.replace("none", "None").replace("channels_last", "torch.channels_last")
    names = {"T": tensors, "torch": torch, "cpu": "cpu", **DTYPES}
    packet = getattr(getattr(torch.ops, namespace), op)
    f = getattr(packet, overload)
    bound = eval(f"(lambda *a, **k: (a, k))({args})", names)
    positional, keywords = list(bound[0]), dict(bound[1])
    # The table takes keyword-only arguments by position too.
    schema = [a for a in f._schema.arguments]
    allowed = sum(not a.kwarg_only for a in schema)
    for a, value in zip(schema[allowed:], positional[allowed:]):
        keywords[a.name] = value
    positional = positional[:allowed]
    for i, (a, value) in enumerate(zip(schema, positional)):
        # Exports have numbers where the schema wants a tensor, and one integer for int[2].
        if str(a.type) == "Tensor" and isinstance(value, (bool, int, float)):
            f = packet.Scalar_mode if overload == "Tensor_mode" else packet.Scalar
        if "List[int]" in str(a.type) and isinstance(value, int):
            positional[i] = [value] * (a.N or 1)
    out = f(*positional, **keywords)
    if isinstance(out, torch.Tensor):
        return [out]
    return [y for x in out for y in (x if isinstance(x, (list, tuple)) else [x])]


def claimed_differs(claimed, want):
    if not claimed or want.numel() == 0:
        return False
    return any(n > 1 and a != b for n, a, b in zip(want.shape, claimed, want.stride()))


def compare(record, got, want, sample):
    if got["dtype"] != next(k for k, v in DTYPES.items() if v == want.dtype):
        return f"dtype {got['dtype']}, eager {want.dtype}"
    if got["sizes"] != list(want.shape):
        return f"sizes {got['sizes']}, eager {list(want.shape)}"
    if claimed_differs(got["strides"], want):
        return f"strides {got['strides']}, eager {list(want.stride())} of sizes {got['sizes']}"
    if sample.startswith(ANY_VALUES):
        return None
    have = tensor_of(got, None)
    if want.dtype.is_complex:
        have, want = torch.view_as_real(have), torch.view_as_real(want.resolve_conj())
    if not want.dtype.is_floating_point:
        return None if torch.equal(have, want) else f"values {have.flatten()[:8]}, eager {want.flatten()[:8]}"
    a, b = have.double(), want.double()
    same = torch.equal(torch.isnan(a), torch.isnan(b)) and torch.equal(torch.isinf(a), torch.isinf(b))
    finite = torch.isfinite(b)
    low = "bf16[" in sample or want.dtype in (torch.bfloat16, torch.float16)
    tolerance = 1.6e-2 if low else 1e-5
    scale = b[finite].abs().max().clamp_min(1e-3) if finite.any() else 1.0
    error = ((a - b)[finite].abs().max() / scale).item() if finite.any() else 0.0
    if not same or error > tolerance:
        return f"error {error:.3g}: {a.flatten()[:6].tolist()}, eager {b.flatten()[:6].tolist()}"
    return None


def check(lines, refusals_count=True):
    """Eager refuses some calls for their strides alone, which says nothing about us."""
    failures = 0
    for line in lines:
        record = json.loads(line)
        sample = record["sample"]
        problem = record.get("error")
        if problem is None:
            strides = [numbers(m.group(3)) if m.group(3) else None for m in TENSOR.finditer(sample)]
            tensors = [tensor_of(t, s) for t, s in zip(record["inputs"], strides)]
            if sample.startswith("aten.detach_"):  # in place, which a view cannot be
                tensors = [t.clone() for t in tensors]
            try:
                want = call_eager(sample, tensors)
            except Exception as e:  # noqa: BLE001: eager's refusals are findings too
                problem = f"eager refuses: {str(e).splitlines()[0]}" if refusals_count else None
            else:
                got = record["outputs"]
                for op, count in FIRST_ONLY.items():
                    if op in sample:
                        got, want = got[:count], want[:count]
                if len(got) != len(want):
                    problem = f"{len(got)} results, eager {len(want)}"
                for g, w in zip(got, want):
                    problem = problem or compare(record, g, w, sample)
        elif "out of range" in problem:
            # Samples' integers may be no indices: then eager refuses too.
            tensors = [tensor_of(t, None) for t in record.get("inputs", [])]
            try:
                call_eager(sample, tensors)
            except Exception:  # noqa: BLE001
                problem = None
        if problem:
            failures += 1
            print(f"{sample}: {problem}")
    return failures


def in_memory_order(sample, kind):
    """The sample with every tensor laid out otherwise; None where nothing changes."""
    if any(name in sample for name in ROWS_ONLY):
        return None
    changed = False

    def relayout(match):
        nonlocal changed
        sizes = numbers(match.group(2))
        order = list(range(len(sizes)))
        if kind == "transposed" and len(sizes) >= 2:
            order[-1], order[-2] = order[-2], order[-1]
        elif kind == "channels_last" and len(sizes) == 4:
            order = [0, 2, 3, 1]
        else:
            return match.group(0)
        changed = True
        strides, step = [0] * len(sizes), 1
        for d in reversed(order):
            strides[d] = step
            step *= sizes[d]
        return f"{match.group(0)} strides {strides}"

    text = TENSOR.sub(relayout, sample)
    return text if changed else None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--op-samples", required=True)
    ap.add_argument("part", nargs="?", default="")
    a = ap.parse_args()
    torch.set_num_threads(1)
    lines = subprocess.run([a.op_samples, a.part], capture_output=True, text=True, check=True).stdout.splitlines()
    failures = check(lines)
    total = len(lines)
    for kind in ("transposed", "channels_last"):
        variants = [in_memory_order(json.loads(line)["sample"], kind) for line in lines]
        text = "".join(v + "\n" for v in variants if v)
        out = subprocess.run([a.op_samples, "-"], input=text, capture_output=True, text=True, check=True).stdout.splitlines()
        total += len(out)
        failures += check(out, refusals_count=False)
    print(f"{total - failures} of {total} samples agree with PyTorch")
    return 1 if failures or not total else 0


if __name__ == "__main__":
    sys.exit(main())
