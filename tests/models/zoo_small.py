"""Small models for ops and forms that the zoo's real architectures lack: recurrences over states, experts, graphs, loops, sizes
that data decide, three dims, Fourier transforms, integers. They join `zoo.ZOO`."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from zoo import Model, from_transformers, model, normal, settle_batch_norms, tokens, unsettle, Wrapped


@model
def mamba():
    net = from_transformers("MambaModel", "MambaConfig", num_hidden_layers=2, hidden_size=64, vocab_size=500, state_size=8)
    return Model(Wrapped(net, lambda net, ids: net(input_ids=ids, use_cache=False).last_hidden_state),
                 lambda b: (tokens(b, 12, 500),), {"b": 2}, {"b": (1, 16)}, lambda b: ({0: b},), [{"b": 1}, {"b": 3}])


@model
def experts_in_groups():
    """mixtral: rows sorted by expert, then products by groups"""
    net = from_transformers("MixtralForCausalLM", "MixtralConfig", num_hidden_layers=2, hidden_size=64, intermediate_size=96,
                            vocab_size=500, num_attention_heads=4, num_key_value_heads=2, num_local_experts=4)
    return Model(Wrapped(net, lambda net, ids: net(input_ids=ids, use_cache=False).logits),
                 lambda b, s: (tokens(b, s, 500),), {"b": 2, "s": 16}, {"b": (1, 16), "s": (2, 64)},
                 lambda b, s: ({0: b, 1: s},), [{"b": 1, "s": 7}, {"b": 3, "s": 40}], doubles=False)


class GraphAttention(nn.Module):
    """messages along edges, added up, then by a softmax over each node's edges; nodes are pooled by graph"""

    def __init__(self):
        super().__init__()
        self.first, self.score, self.last = nn.Linear(16, 32), nn.Linear(64, 1), nn.Linear(32, 8)

    def forward(self, nodes, edges, graphs):
        source, target = edges
        h = self.first(nodes)
        degree = h.new_zeros(h.shape[0]).scatter_add(0, target, h.new_ones(edges.shape[1])).clamp(min=1).rsqrt()
        h = F.relu(torch.zeros_like(h).index_add(0, target, h[source] * (degree[source] * degree[target])[:, None]))
        score = F.leaky_relu(self.score(torch.cat([h[source], h[target]], -1))).squeeze(-1)
        top = h.new_full((h.shape[0],), -1e9).scatter_reduce(0, target, score, "amax")
        share = torch.exp(score - top[target])
        total = h.new_zeros(h.shape[0]).index_add(0, target, share)
        h = self.last(torch.zeros_like(h).index_add(0, target, h[source] * (share / total[target])[:, None]))
        means = h.new_zeros(4, 8).index_reduce(0, graphs, h, "mean", include_self=False)
        return h, means, h.new_full((4, 8), -100.0).scatter_reduce(0, graphs[:, None].expand(-1, 8), h, "amax")


@model
def graph_attention():
    torch.manual_seed(0)

    def inputs(n, k):
        g = torch.Generator().manual_seed(n)
        return (normal(n, 16), torch.randint(0, n, (2, k), generator=g),
                torch.randint(0, 4, (n,), generator=g).sort().values)

    return Model(GraphAttention().eval(), inputs, {"n": 40, "k": 150}, {"n": (4, 1000), "k": (4, 5000)},
                 lambda n, k: ({0: n}, {1: k}, {0: n}), [{"n": 11, "k": 20}, {"n": 100, "k": 700}])


class Suppression(nn.Module):
    """of overlapping boxes those with the best scores: nonzero, a stable sort, a while_loop"""

    def forward(self, boxes, scores):
        good = torch.nonzero(scores > 0.2).squeeze(-1)
        order = torch.argsort(scores[good], descending=True, stable=True)
        b = boxes[good][order]
        low, high = torch.maximum(b[:, None, :2], b[None, :, :2]), torch.minimum(b[:, None, 2:], b[None, :, 2:])
        common = (high - low).clamp(min=0).prod(-1)
        area = (b[:, 2:] - b[:, :2]).prod(-1)
        over = common / (area[:, None] + area[None] - common) > 0.5
        places = torch.arange(b.shape[0])

        def more(i, alive):
            return i < alive.shape[0]

        def step(i, alive):
            row = torch.index_select(over, 0, i.view(1))[0]
            return i + 1, alive & ~(row & (places > i) & torch.index_select(alive, 0, i.view(1))[0])

        start = (torch.tensor(0), torch.ones(b.shape[0], dtype=torch.bool))
        alive = torch._higher_order_ops.while_loop(more, step, start)[1]
        return good[order][alive]


@model
def suppression():
    def inputs(n):
        g = torch.Generator().manual_seed(n)
        corner = torch.rand(n, 2, generator=g) * 10
        return torch.cat([corner, corner + torch.rand(n, 2, generator=g) * 5 + 0.5], 1), torch.rand(n, generator=g)

    return Model(Suppression(), inputs, {"n": 50}, {"n": (2, 500)}, lambda n: ({0: n}, {0: n}), [{"n": 10}, {"n": 200}])


@model
def video_convolutions():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(3, 16, 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(16), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(16, 32, (3, 1, 1), padding=(1, 0, 0)), nn.Conv3d(32, 32, (1, 3, 3), padding=(0, 1, 1), groups=4),
        nn.GroupNorm(4, 32), nn.SiLU(), nn.ConvTranspose3d(32, 16, 2, 2), nn.ReLU6(),
        nn.Conv3d(16, 16, 3, dilation=2, padding=2), nn.AvgPool3d(2))
    net = settle_batch_norms(unsettle(net), normal(2, 3, 8, 24, 24))
    return Model(net, lambda b: (normal(b, 3, 8, 24, 24),), {"b": 2}, {"b": (1, 16)}, lambda b: ({0: b},), [{"b": 1}, {"b": 3}])


class Spectrogram(nn.Module):
    """a mask over a short-time transform, from its mel bands by a recurrent layer; and back to samples"""

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))
        self.register_buffer("mel", torch.rand(20, 33))
        self.net, self.out = nn.GRU(20, 24, batch_first=True), nn.Linear(24, 33)

    def forward(self, x):
        z = torch.stft(x, 64, 16, window=self.window, return_complex=True)
        bands = torch.log1p(self.mel @ (z.real ** 2 + z.imag ** 2)).transpose(1, 2)
        mask = torch.sigmoid(self.out(self.net(bands)[0])).transpose(1, 2)
        return torch.istft(z * mask, 64, 16, window=self.window, length=x.shape[1]), bands, z.abs()


@model
def spectrogram():
    torch.manual_seed(0)
    return Model(Spectrogram().eval(), lambda b: (normal(b, 400),), {"b": 2}, {"b": (1, 16)}, lambda b: ({0: b},),
                 [{"b": 1}, {"b": 3}])


class Int8Convolutions(nn.Module):
    """what quantising after training leaves: int8 weights by channel, uint8 between layers, and a product of integers"""

    def __init__(self):
        super().__init__()
        import torch.ao.quantization.fx._decomposed  # noqa: F401: registers the ops

        ops = torch.ops.quantized_decomposed
        for i, sizes in enumerate([(16, 3, 3, 3), (32, 16, 3, 3), (10, 32)]):
            w = torch.randn(sizes)
            scale, zero = w.flatten(1).abs().amax(1) / 127, torch.zeros(sizes[0], dtype=torch.int64)
            self.register_buffer(f"w{i}", ops.quantize_per_channel(w, scale, zero, 0, -128, 127, torch.int8))
            self.register_buffer(f"scale{i}", scale)
            self.register_buffer(f"zero{i}", zero)
            self.register_buffer(f"b{i}", torch.randn(sizes[0]))

    def weight(self, i):
        return torch.ops.quantized_decomposed.dequantize_per_channel(
            getattr(self, f"w{i}"), getattr(self, f"scale{i}"), getattr(self, f"zero{i}"), 0, -128, 127, torch.int8)

    def steps(self, x, scale, zero):
        ops = torch.ops.quantized_decomposed
        x = ops.quantize_per_tensor(x, scale, zero, 0, 255, torch.uint8)
        return ops.dequantize_per_tensor(x, scale, zero, 0, 255, torch.uint8)

    def forward(self, x):
        x = self.steps(x, 0.03, 128)
        x = self.steps(F.relu(F.conv2d(x, self.weight(0), self.b0, padding=1)), 0.1, 0)
        x = self.steps(F.relu(F.conv2d(F.max_pool2d(x, 2), self.weight(1), self.b1, stride=2)), 0.5, 0)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return F.linear(x, self.weight(2), self.b2), torch._weight_int8pack_mm(x, self.w2, self.scale2)


@model
def int8_convolutions():
    torch.manual_seed(0)
    return Model(Int8Convolutions().eval(), lambda b: (normal(b, 3, 24, 24),), {"b": 4}, {"b": (1, 64)}, lambda b: ({0: b},),
                 [{"b": 1}, {"b": 7}], dtype="int8")
