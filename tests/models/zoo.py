"""The models that must be right: real architectures with seeded random weights, none of them left at a value (zero bias,
unit scale) that would hide a fault. `ZOO[name]()` builds a Model."""
import math
import os
import sys
import types
from dataclasses import dataclass, field
from typing import Any, Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils._pytree as pytree


@dataclass
class Model:
    module: nn.Module
    inputs: Callable[..., tuple]  # inputs(**sizes): positional arguments, any nesting of tensors
    sizes: dict[str, int]  # what the export is made with
    ranges: dict[str, tuple[int, int]]  # the sizes that a dynamic export leaves open
    dims: Callable[..., Any]  # dims(**torch.export.Dim): dynamic_shapes of the positional arguments
    variants: list[dict[str, int]] = field(default_factory=list)  # more sizes to run the dynamic export with
    dtype: str = "float32"  # "int8": a difference of rounding may be a whole step of it
    doubles: bool = True  # whether it runs in float64 too

    @property
    def tolerance(self):
        """largest error over the largest magnitude of an output"""
        return {"bfloat16": 5e-2, "int8": 2e-2}.get(self.dtype, 2e-4)


ZOO: dict[str, Callable[[], Model]] = {}


def model(build):
    ZOO[build.__name__] = build
    return build


# ---- what the models share ------------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """call(net, *tensors): picks what to pass and what to return"""

    def __init__(self, net, call):
        super().__init__()
        self.net, self.call = net, call

    def forward(self, *tensors):
        return self.call(self.net, *tensors)


class InBfloat16(nn.Module):
    """float32 outside, since .npz has no bfloat16; bfloat16 inside"""

    def __init__(self, net):
        super().__init__()
        self.net = net.to(torch.bfloat16)

    def forward(self, *tensors):
        out = self.net(*[t.to(torch.bfloat16) if t.is_floating_point() else t for t in tensors])
        return pytree.tree_map(lambda t: t.float() if t.is_floating_point() else t, out)


def normal(*shape, seed=0, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(31 * seed + sum(shape))) * scale


def tokens(batch, length, vocabulary):
    generator = torch.Generator().manual_seed(7 * batch + length)
    return torch.randint(5, vocabulary, (batch, length), generator=generator)


def padding_mask(batch, length):
    """1 for words; every row but the first ends in padding"""
    mask = torch.ones(batch, length, dtype=torch.int64)
    for row in range(1, batch):
        mask[row, max(1, length - (row % 4) * (length // 4)):] = 0
    return mask


def unsettle(net):
    """moves parameters that are one constant away from it"""
    generator = torch.Generator().manual_seed(77)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.numel() > 1 and parameter.is_floating_point() and parameter.min() == parameter.max():
                parameter += torch.randn(parameter.shape, generator=generator) * 0.1 * max(0.3, float(parameter.max()))
    return net.eval()


def settle_batch_norms(net, *inputs):
    """statistics of random data, so that activations keep their scale through many layers"""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return net
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    with torch.no_grad():
        for _ in range(2):
            net(*inputs)
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
    return net.eval()


def from_transformers(model_class, config_class, **config):
    import transformers

    torch.manual_seed(0)
    return unsettle(getattr(transformers, model_class)(getattr(transformers, config_class)(**config)))


def import_timm():
    """timm, whose data pipelines want torchvision: empty modules are enough to build networks"""
    if "timm" in sys.modules:
        return sys.modules["timm"]

    class Anything(type):
        def __getattr__(cls, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything(name, (), {})

    class Empty(types.ModuleType):
        __path__ = []

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything(name, (), {})

    import importlib.machinery
    import importlib.util

    wanted = {"torchvision": ["transforms", "transforms.functional", "transforms.v2", "datasets", "datasets.folder", "ops",
                              "ops.misc", "models", "models.feature_extraction", "utils", "io"],
              "PIL": ["Image", "ImageOps", "ImageEnhance", "ImageChops", "ImageFilter"]}
    made = []
    for package, parts in wanted.items():
        if importlib.util.find_spec(package):
            continue
        for name in [package] + [f"{package}.{part}" for part in parts]:
            stub = Empty(name)
            stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
            stub.__version__ = "0.0"
            sys.modules[name] = stub
            if "." in name:
                parent, _, child = name.rpartition(".")
                setattr(sys.modules[parent], child, stub)
            made.append(name)
    import timm

    # Others decide by what is importable: take the stand-ins away again.
    for name in made:
        del sys.modules[name]
    return timm


def from_timm(name, size=224, bfloat16=False, **config):
    torch.manual_seed(0)
    net = unsettle(import_timm().create_model(name, pretrained=False, **config))
    net = settle_batch_norms(net, normal(4, 3, 64, 64, seed=9))
    return images(InBfloat16(net) if bfloat16 else net, size, dtype="bfloat16" if bfloat16 else "float32")


def images(net, size=224, dtype="float32"):
    return Model(net, lambda b: (normal(b, 3, size, size),), {"b": 2}, {"b": (1, 64)}, lambda b: ({0: b},),
                 [{"b": 1}, {"b": 5}], dtype)


def text(net, vocabulary, call, batch=2, length=32, variants=None, dtype="float32"):
    """token ids and padding mask in"""
    return Model(Wrapped(net, call), lambda b, s: (tokens(b, s, vocabulary), padding_mask(b, s)),
                 {"b": batch, "s": length}, {"b": (1, 64), "s": (2, 128)}, lambda b, s: ({0: b, 1: s}, {0: b, 1: s}),
                 variants or [{"b": 1, "s": 17}, {"b": 3, "s": 64}], dtype)


def text_without_mask(net, vocabulary, call, batch=2, length=32, variants=None):
    return Model(Wrapped(net, call), lambda b, s: (tokens(b, s, vocabulary),), {"b": batch, "s": length},
                 {"b": (1, 64), "s": (2, 128)}, lambda b, s: ({0: b, 1: s},),
                 variants or [{"b": 1, "s": 17}, {"b": 3, "s": 64}])


# ---- language -------------------------------------------------------------------------------------------------------


@model
def bert_base():
    net = from_transformers("BertModel", "BertConfig")
    return text(net, 30522, lambda m, ids, mask: m(input_ids=ids, attention_mask=mask)[:2], length=48)


@model
def gpt2():
    net = from_transformers("GPT2LMHeadModel", "GPT2Config")
    return text_without_mask(net, 50257, lambda m, ids: (m(input_ids=ids, use_cache=False).logits,),
                             variants=[{"b": 1, "s": 9}, {"b": 1, "s": 100}])


LLAMA = dict(num_hidden_layers=8, hidden_size=512, intermediate_size=1376, num_attention_heads=8, num_key_value_heads=4,
             vocab_size=8000, max_position_embeddings=1024)


@model
def llama_small():
    net = from_transformers("LlamaForCausalLM", "LlamaConfig", **LLAMA)
    return text_without_mask(net, 8000, lambda m, ids: (m(input_ids=ids, use_cache=False).logits,), length=48)


@model
def llama_small_decode():
    """one token, with the keys and values of earlier ones as inputs, and those of all as outputs"""
    net = from_transformers("LlamaForCausalLM", "LlamaConfig", **LLAMA)
    layers, heads, head_size = 8, 4, 64

    def step(m, ids, *past):
        from transformers import DynamicCache

        cache = DynamicCache()
        for i in range(layers):
            cache.update(past[2 * i], past[2 * i + 1], i)
        start = past[0].shape[2]
        positions = torch.arange(start, start + ids.shape[1], device=ids.device).unsqueeze(0)
        out = m(input_ids=ids, past_key_values=cache, use_cache=True, position_ids=positions)
        return (out.logits, *[t for layer in out.past_key_values.layers for t in (layer.keys, layer.values)])

    def inputs(b, p):
        past = [normal(b, heads, p, head_size, seed=i, scale=0.5) for i in range(2 * layers)]
        return (tokens(b, 1, 8000), *past)

    return Model(Wrapped(net, step), inputs, {"b": 2, "p": 24}, {"b": (1, 16), "p": (2, 512)},
                 lambda b, p: ({0: b}, *[{0: b, 2: p}] * (2 * layers)), [{"b": 1, "p": 9}, {"b": 3, "p": 100}])


@model
def t5_encoder():
    net = from_transformers("T5EncoderModel", "T5Config", num_layers=4, vocab_size=8000)
    return text(net, 8000, lambda m, ids, mask: (m(input_ids=ids, attention_mask=mask).last_hidden_state,))


@model
def bert_tiny_bf16():
    net = from_transformers("BertModel", "BertConfig", num_hidden_layers=4, hidden_size=256, num_attention_heads=4,
                            intermediate_size=1024, vocab_size=8000).to(torch.bfloat16)
    return text(net, 8000, lambda m, ids, mask: tuple(t.float() for t in m(input_ids=ids, attention_mask=mask)[:2]),
                dtype="bfloat16")


class GptBlock(nn.Module):
    def __init__(self, width, heads, longest):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.register_buffer("earlier", torch.ones(longest, longest, dtype=torch.bool).tril()[None, None])

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norm_1(x)).split(width, 2))
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        weights = scores.masked_fill(~self.earlier[:, :, :length, :length], float("-inf")).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.mlp(self.norm_2(x))


class Gpt(nn.Module):
    def __init__(self, vocabulary=256, width=192, layers=4, heads=6, longest=128):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(longest, width)
        self.blocks = nn.Sequential(*[GptBlock(width, heads, 2 * longest) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids):
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(self.blocks(x)))


@model
def nanogpt():
    """attention written out, masked by a buffer; word embeddings are the head's weights too"""
    torch.manual_seed(0)
    return Model(unsettle(Gpt()), lambda b, s: (tokens(b, s, 256),), {"b": 2, "s": 40}, {"b": (1, 16), "s": (2, 128)},
                 lambda b, s: ({0: b, 1: s},), [{"b": 1, "s": 7}, {"b": 4, "s": 128}])


class Tagger(nn.Module):
    def __init__(self, vocabulary=5000, width=96, hidden=128, tags=17):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, tags)

    def forward(self, ids):
        y, (h, c) = self.lstm(self.words(ids))
        return self.out(y).log_softmax(-1), h, c


@model
def lstm_tagger():
    torch.manual_seed(0)
    return Model(Tagger().eval(), lambda b: (tokens(b, 20, 5000),), {"b": 3}, {"b": (1, 64)}, lambda b: ({0: b},),
                 [{"b": 1}, {"b": 8}])


# ---- vision ---------------------------------------------------------------------------------------------------------


@model
def resnet50():
    return from_timm("resnet50")


@model
def resnet18_bf16():
    return from_timm("resnet18", size=128, bfloat16=True)


@model
def mobilenetv3_large():
    return from_timm("mobilenetv3_large_100")


@model
def efficientnet_b0():
    return from_timm("efficientnet_b0")


@model
def convnext_tiny():
    return from_timm("convnext_tiny", size=128, depths=(2, 2, 3, 2))


@model
def mixer_b16():
    import_timm()
    from timm.models.mlp_mixer import MlpMixer

    torch.manual_seed(0)
    return images(unsettle(MlpMixer(patch_size=16, num_blocks=4, embed_dim=768)))


@model
def vit_base():
    net = from_transformers("ViTModel", "ViTConfig")
    return images(Wrapped(net, lambda m, x: m(pixel_values=x)[:2]))


class ResidualBlock(nn.Module):
    def __init__(self, channels_in, channels_out, time_width):
        super().__init__()
        self.norm_1, self.conv_1 = nn.GroupNorm(8, channels_in), nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time = nn.Linear(time_width, channels_out)
        self.norm_2, self.conv_2 = nn.GroupNorm(8, channels_out), nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x, time):
        h = self.conv_1(F.silu(self.norm_1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv_2(F.silu(self.norm_2(h)))


class PixelAttention(nn.Module):
    def __init__(self, channels, heads=4):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, height * width)
        y = F.scaled_dot_product_attention(*qkv.transpose(-1, -2).unbind(1))
        return x + self.out(y.transpose(-1, -2).reshape(batch, channels, height, width))


class UNet(nn.Module):
    def __init__(self, width=32, multiples=(1, 2, 4), channels=4):
        super().__init__()
        self.width, time_width, last = width, 4 * width, len(multiples) - 1
        self.time = nn.Sequential(nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down, self.up, kept, now = nn.ModuleList(), nn.ModuleList(), [], width
        for i, multiple in enumerate(multiples):
            next_ = width * multiple
            self.down.append(nn.ModuleList([ResidualBlock(now, next_, time_width),
                                            PixelAttention(next_) if i else nn.Identity(),
                                            nn.Conv2d(next_, next_, 3, 2, 1) if i < last else nn.Identity()]))
            now = next_
            kept.append(now)
        self.middle = nn.ModuleList([ResidualBlock(now, now, time_width), PixelAttention(now),
                                     ResidualBlock(now, now, time_width)])
        for i, multiple in reversed(list(enumerate(multiples))):
            next_ = width * multiple
            self.up.append(nn.ModuleList([ResidualBlock(now + kept.pop(), next_, time_width),
                                          nn.Conv2d(next_, next_, 3, padding=1) if i else nn.Identity()]))
            now = next_
        self.norm, self.out = nn.GroupNorm(8, now), nn.Conv2d(now, channels, 3, padding=1)

    def forward(self, x, step):
        half = self.width // 2
        frequencies = torch.exp(torch.arange(half, device=x.device, dtype=x.dtype) * (-math.log(10000.0) / half))
        angles = step.to(x.dtype)[:, None] * frequencies[None]
        time = self.time(torch.cat([angles.cos(), angles.sin()], -1))
        h, kept = self.first(x), []
        for block, attention, shrink in self.down:
            h = attention(block(h, time))
            kept.append(h)
            h = shrink(h)
        h = self.middle[2](self.middle[1](self.middle[0](h, time)), time)
        for block, conv in self.up:
            h = block(torch.cat([h, kept.pop()], 1), time)
            if kept:
                h = conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.out(F.silu(self.norm(h)))


@model
def unet_diffusion():
    torch.manual_seed(0)
    return Model(unsettle(UNet()), lambda b: (normal(b, 4, 32, 32), torch.arange(b) * 37 + 3), {"b": 2}, {"b": (1, 16)},
                 lambda b: ({0: b}, {0: b}), [{"b": 1}, {"b": 3}])


# ---- others ---------------------------------------------------------------------------------------------------------


@model
def lennard_jones():
    """a potential over distances, and its forces: the derivative is part of the graph"""
    from torch.fx.experimental.proxy_tensor import make_fx

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))

    def potential(distances):
        slope, energy = torch.func.grad_and_value(lambda r: net(r).sum())(distances)
        return energy, -slope, net(distances)

    def inputs(b):
        return (normal(b, 1).abs() + 0.5,)

    traced = make_fx(potential, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs(1000))
    return Model(traced, inputs, {"b": 1000}, {"b": (2, 100000)}, lambda b: ({0: b},), [{"b": 7}, {"b": 4096}])


class Recommender(nn.Module):
    """DLRM: embedding bags of fixed length, interactions of all pairs"""

    def __init__(self, tables=(1000, 500, 200, 50), width=32, dense=13):
        super().__init__()
        self.bags = nn.ModuleList([nn.EmbeddingBag(rows, width, mode="sum") for rows in tables])
        self.bottom = nn.Sequential(nn.Linear(dense, 64), nn.ReLU(), nn.Linear(64, width), nn.ReLU())
        count = len(tables) + 1
        i, j = torch.tril_indices(count, count, -1)
        self.register_buffer("pairs", i * count + j)
        self.top = nn.Sequential(nn.Linear(width + count * (count - 1) // 2, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())

    def forward(self, dense, indices):
        d = self.bottom(dense)
        t = torch.stack([d] + [bag(indices[:, i]) for i, bag in enumerate(self.bags)], 1)
        products = torch.bmm(t, t.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        return self.top(torch.cat([d, products], 1))


@model
def dlrm_fixed_bags():
    torch.manual_seed(0)

    def inputs(b):
        return normal(b, 13), torch.randint(0, 50, (b, 4, 6), generator=torch.Generator().manual_seed(b))

    return Model(Recommender().eval(), inputs, {"b": 16}, {"b": (1, 1024)}, lambda b: ({0: b}, {0: b}), [{"b": 1}, {"b": 130}])
