#!/usr/bin/env python3
"""Writes data/aten_schemas.txt from the installed PyTorch: `python3 scripts/dump_schemas.py data/aten_schemas.txt`.

One line per overload, sorted: schema TAB tags TAB flags. Tags are PyTorch's, without the one that nearly every op has.
Flags: I composite implicit kernel, E composite explicit kernel, m an argument is written, v a result aliases an argument,
* one argument aliases every element of a returned list, - none. TorchScript's helpers without a tensor are left out,
but for the few that exported graphs call on sizes.
"""
import sys

import torch
import torch._prims  # registers prims
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
import transformers.integrations.moe  # registers its products by groups

COMMON_TAG = "pt2_compliant_tag"
SCALAR_OPS = {
    "aten::sym_constrain_range", "aten::sym_constrain_range_for_size", "aten::_assert_scalar",
    "aten::_functional_assert_scalar", "aten::full", "aten::empty", "aten::scalar_tensor",
}
PRIMS = {
    "prims::convert_element_type", "prims::broadcast_in_dim", "prims::iota", "prims::transpose", "prims::collapse_view",
    "prims::split_dim", "prims::squeeze", "prims::div", "prims::rsqrt", "prims::where", "prims::view_of", "prims::device_put",
}
# Ops of libraries that exported models call.
OTHERS = {"transformers::grouped_mm_fallback"}


def line(schema):
    name = schema.name + ("." + schema.overload_name if schema.overload_name else "")
    namespace, base = schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), base)
    overload = getattr(packet, schema.overload_name or "default", None)
    tags = {str(tag).rsplit(".", 1)[-1] for tag in overload.tags} if overload else {"no_overload_object"}

    def has_kernel(key):
        return torch._C._dispatch_has_kernel(name) and torch._C._dispatch_has_kernel_for_dispatch_key(name, key)

    flags = "I" if has_kernel("CompositeImplicitAutograd") else ""
    flags += "E" if has_kernel("CompositeExplicitAutograd") else ""
    flags += "m" if any(a.alias_info and a.alias_info.is_write for a in schema.arguments) else ""
    flags += "v" if any(r.alias_info and not r.alias_info.is_write for r in schema.returns) else ""
    flags += "*" if "-> *" in str(schema) else ""
    return f"{schema}\t{','.join(sorted(tags - {COMMON_TAG}))}\t{flags or '-'}"


def wanted(schema):
    if schema.name in PRIMS or schema.name in SCALAR_OPS or schema.name in OTHERS:
        return True
    if schema.name.startswith("quantized_decomposed::"):
        return True
    text = str(schema)
    return schema.name.startswith("aten::") and "Tensor" in text and "Dict(" not in text


def main(path):
    rows = sorted({line(schema) for schema in torch._C._jit_get_all_schemas() if wanted(schema)})
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(row + "\n" for row in rows)
    print(f"{len(rows)} schemas of PyTorch {torch.__version__}")


if __name__ == "__main__":
    main(sys.argv[1])
