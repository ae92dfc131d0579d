"""What each suite times: named models, small ones and whole ones, with the arithmetic and the memory traffic that they
cannot do without, where those are known."""
import math
from dataclasses import dataclass
from typing import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F

from zoo import ZOO, Model, normal


@dataclass
class Item:
    build: Callable[[], Model]
    flops: float = 0  # multiplications and additions of products, for the share of the peak
    bytes: float = 0  # inputs, weights and outputs once, for the share of the bandwidth
    peers: tuple[str, ...] = ("eager", "inductor", "freezing", "max-autotune", "aotinductor", "onnxruntime", "openvino")


MODEL_PEERS = Item.__dataclass_fields__["peers"].default
PRIMITIVE_PEERS = ("eager", "onednn", "inductor", "freezing", "max-autotune", "onnxruntime", "openvino")


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


def seeded(build):
    """a module whose parameters are the same in every process"""
    torch.manual_seed(0)
    return build().eval()


def item(build, shapes, flops=0.0, bytes=0.0, peers=PRIMITIVE_PEERS):
    def make():
        return Model(seeded(build), lambda: tuple(normal(*s, seed=i) for i, s in enumerate(shapes)), {}, {}, lambda: ())

    return Item(make, flops, bytes, peers)


def product(m, k, n):
    return item(lambda: nn.Linear(k, n), [(m, k)], 2.0 * m * k * n, 4.0 * (m * k + k * n + m * n))


def gemm():
    out = {f"square_{n}": product(n, n, n) for n in (64, 128, 256, 512, 1024, 2048)}
    # BERT-base's, GPT-2's, a few rows, one row, odd sizes.
    for m, k, n in [(128, 768, 768), (128, 768, 3072), (128, 3072, 768), (128, 768, 50257), (4, 768, 3072),
                    (16, 1024, 1024), (1, 4096, 4096), (1, 768, 768), (33, 77, 129), (8, 64, 64)]:
        out[f"{m}x{k}x{n}"] = product(m, k, n)
    out["batched_96x64x64"] = item(lambda: Calls(torch.matmul), [(12, 96, 64), (12, 64, 96)], 2.0 * 12 * 96 * 96 * 64)
    return out


def convolution(channels, filters, size, kernel, stride=1, groups=1, batch=1):
    padding, out = kernel // 2, (size + 2 * (kernel // 2) - kernel) // stride + 1
    return item(lambda: nn.Conv2d(channels, filters, kernel, stride, padding, groups=groups),
                [(batch, channels, size, size)], 2.0 * batch * filters * out * out * channels // groups * kernel * kernel)


def conv():
    """ResNet-50's kinds, then depthwise ones of MobileNetV3 and ConvNeXt"""
    out = {"first_7x7s2": convolution(3, 64, 224, 7, 2)}
    for c, size in [(64, 56), (128, 28), (256, 14), (512, 7)]:
        out[f"3x3_{c}_{size}"] = convolution(c, c, size, 3)
        out[f"1x1_{c}_{4 * c}_{size}"] = convolution(c, 4 * c, size, 1)
        out[f"1x1_{4 * c}_{c}_{size}"] = convolution(4 * c, c, size, 1)
    out["3x3s2_128_56"] = convolution(128, 128, 56, 3, 2)
    out["1x1s2_256_512_56"] = convolution(256, 512, 56, 1, 2)
    out["depthwise_3x3_120_28"] = convolution(120, 120, 28, 3, 1, 120)
    out["depthwise_5x5_240_14"] = convolution(240, 240, 14, 5, 1, 240)
    out["depthwise_7x7_96_56"] = convolution(96, 96, 56, 7, 1, 96)
    out["grouped_3x3_128_32g_28"] = convolution(128, 128, 28, 3, 1, 32)
    return out


def attention_item(batch, heads, queries, keys, width, causal=False):
    def call(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    shapes = [(batch, heads, queries, width), (batch, heads, keys, width), (batch, heads, keys, width)]
    flops = 4.0 * batch * heads * queries * keys * width / (2 if causal else 1)
    return item(lambda: Calls(call), shapes, flops, peers=("eager", "inductor", "onnxruntime", "openvino"))


def grouped_decode(heads, groups, keys, width):
    def call(q, k, v):
        return F.scaled_dot_product_attention(q, k.repeat_interleave(heads // groups, 1),
                                              v.repeat_interleave(heads // groups, 1))

    shapes = [(1, heads, 1, width), (1, groups, keys, width), (1, groups, keys, width)]
    return item(lambda: Calls(call), shapes, 4.0 * heads * keys * width, 8.0 * groups * keys * width,
                ("eager", "inductor", "onnxruntime", "openvino"))


def attention():
    return {"bert_12x128": attention_item(1, 12, 128, 128, 64), "gpt2_causal_12x1024": attention_item(1, 12, 1024, 1024, 64, True),
            "long_8x2048": attention_item(1, 8, 2048, 2048, 64), "vit_12x197": attention_item(1, 12, 197, 197, 64),
            "wide_8x512x128": attention_item(1, 8, 512, 512, 128), "decode_32_8x4096": grouped_decode(32, 8, 4096, 128)}


def fusion():
    """element-wise work and row reductions: from cache, and from memory"""
    out = {}
    for place, rows, columns in [("cache", 128, 768), ("memory", 4096, 4096)]:
        size, count = (rows, columns), rows * columns
        unary = {"gelu": F.gelu, "sigmoid_mul": lambda x: x * torch.sigmoid(x), "tanh": torch.tanh,
                 "softmax": lambda x: F.softmax(x, -1)}
        for name, call in unary.items():
            out[f"{name}_{place}"] = item(lambda call=call: Calls(call), [size], bytes=8.0 * count, peers=MODEL_PEERS)
        out[f"layer_norm_{place}"] = item(lambda: nn.LayerNorm(columns), [size], bytes=8.0 * count, peers=MODEL_PEERS)
        out[f"rms_norm_{place}"] = item(lambda: nn.RMSNorm(columns, eps=1e-6), [size], bytes=8.0 * count, peers=MODEL_PEERS)
        out[f"residual_norm_gelu_{place}"] = item(
            lambda: Calls(lambda x, y: F.gelu(F.layer_norm(x + y, (x.shape[-1],)))), [size, size], bytes=12.0 * count,
            peers=MODEL_PEERS)
    return out


def overhead():
    def mlp(width, depth):
        return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), nn.ReLU())])

    return {"mlp_8x64": item(lambda: mlp(64, 2), [(8, 64)], peers=MODEL_PEERS),
            "add_8": item(lambda: Calls(torch.add), [(8,), (8,)], peers=MODEL_PEERS),
            "four_blocks_32x512": item(
                lambda: nn.Sequential(*[m for _ in range(4) for m in (nn.LayerNorm(512), nn.Linear(512, 512), nn.GELU())]),
                [(32, 512)], peers=MODEL_PEERS)}


def models():
    return {name: Item(build) for name, build in ZOO.items()}


def compiled_models():
    def mlp():
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    names = ("bert_base", "resnet50", "gpt2", "vit_base", "mobilenetv3_large", "efficientnet_b0", "lstm_tagger")
    return {"mlp_2_layers": item(mlp, [(8, 64)])} | {name: Item(ZOO[name]) for name in names}


def some_models(*names):
    return lambda: {name: Item(ZOO[name]) for name in names}


SUITES = {"models": models, "gemm": gemm, "conv": conv, "attention": attention, "fusion": fusion, "overhead": overhead,
          "compile": compiled_models, "memory": models, "contention": some_models("bert_base", "resnet50")}


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None
