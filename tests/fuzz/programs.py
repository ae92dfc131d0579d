"""Random PyTorch programs: a seed in, the source of a module out, with inputs of two sizes.

Statements are drawn one by one and run at once in several worlds: sizes of two kinds, each in float32, in float64 and with
inputs and results jiggled by an ulp. A statement that fails anywhere, or whose values leave a tame range, is dropped again. A value
is exact where float32 and float64 agree bit for bit and every statement behind it computes exactly: those must come out
equal, and only those feed what jumps (comparisons, rounding, sorting).
"""
import random
import re
from types import SimpleNamespace

import torch
import torch.nn.functional as F

SIZES = (6, 11)  # of the dimension B, in the two worlds
TAME = 1e3       # no value may be larger


class World:
    """One run of the program: its size of B, its float type, whether it jiggles."""

    def __init__(self, size, dtype, jiggle=False):
        self.size, self.dtype, self.jiggle = size, dtype, jiggle
        self.names = {"torch": torch, "F": F, "self": SimpleNamespace()}
        self.noise = torch.Generator().manual_seed(size)

    def source(self, text):
        """the statement in this world's types"""
        if self.dtype is torch.float64:
            # Through a low precision is a copy.
            text = re.sub(r"\.to\(torch\.b?float16\)\.to\(torch\.float32\)", ".clone()", text).replace("torch.float32", "torch.float64")
        return text

    def shaken(self, x):
        if not self.jiggle or x.dtype != torch.float32:
            return x
        signs = torch.randint(-1, 2, x.shape, generator=self.noise).to(torch.float32)
        return x * (1 + signs * 2.0 ** -24 * 1.5)


class Line:
    """A statement: `name` = text, or text with {} for the value `target` that it writes to."""

    def __init__(self, text, operands, exact, coarse=0.0, name=None, target=None):
        self.text, self.operands, self.exact, self.coarse, self.name, self.target = text, operands, exact, coarse, name, target

    def __str__(self):
        return f"{self.name} = {self.text}" if self.name else self.text.replace("{}", self.target)


class Value:
    def __init__(self, name, exact, coarse=0.0):
        self.name, self.exact, self.coarse = name, exact, coarse  # coarse: the widest epsilon behind it


class Program:
    def __init__(self, seed):
        self.seed, self.random = seed, random.Random(seed)
        # Twice float32, twice float64, twice float32 shaken.
        self.worlds = [World(size, dtype, shaken) for dtype, shaken in ((torch.float32, False), (torch.float64, False), (torch.float32, True))
                       for size in SIZES]
        self.values, self.inputs, self.parameters, self.lines, self.outputs = [], [], {}, [], []
        self.count = 0

    @staticmethod
    def of_length(seed, length):
        p = Program(seed)
        for _ in range(p.random.randint(1, 3)):
            r = p.random
            sizes = ["B"] + [r.choice([1, 3, 4, 5, 8, 16, 17]) for _ in range(r.choice([0, 1, 1, 2, 2, 3]))]
            if r.random() < 0.3:
                r.shuffle(sizes)
            p.add_input(sizes, r.choice(["float", "float", "float", "eighths", "int", "bool"]), r.randrange(1 << 30))
        for _ in range(8 * length):
            if len(p.lines) < length:
                p.random.choice(KINDS)(p)
        fresh = [line.name for line in p.lines if line.name]
        p.outputs = p.random.sample(fresh, min(len(fresh), p.random.randint(1, 5)))
        if fresh and fresh[-1] not in p.outputs:
            p.outputs.append(fresh[-1])
        return p

    def without(self, dropped, outputs):
        """the program of fewer lines, run afresh; lines that need a dropped one's value go too"""
        p = Program(self.seed)
        for x in self.inputs:
            p.add_input(*x[1:])
        for name, x in self.parameters.items():
            p.set_parameter(name, x)
        known = {v.name: v for v in p.values}
        for line in self.lines:
            needed = [*line.operands, *([line.target] if line.target else [])]
            if line in dropped or any(name not in known for name in needed):
                continue
            operands = [known[name] for name in line.operands]
            if line.name:
                if p.let(line.text, *operands, exact=line.exact, coarse=line.coarse, name=line.name):
                    known[line.name] = p.values[-1]
            else:
                p.write(known[line.target], line.text, *operands, exact=line.exact)
        p.outputs = [name for name in outputs if name in known]
        return p

    # ---- what statements are made of

    def tensor(self, name, world=0):
        return self.worlds[world].names[name]

    def add_input(self, sizes, kind, seed):
        name = f"a{len(self.inputs)}"
        self.inputs.append((name, sizes, kind, seed))
        for world, x in zip(self.worlds, [self.arguments(world.size)[-1] for world in self.worlds]):
            x = x.to(world.dtype) if x.is_floating_point() else x
            world.names[name] = world.shaken(x) if kind == "float" else x
        self.values.append(Value(name, kind != "float"))

    def parameter(self, sizes, scale=1.0, positive=False):
        """the expression of a parameter of these sizes"""
        name = f"p{len(self.parameters)}"
        generator = torch.Generator().manual_seed(self.random.randrange(1 << 30))
        x = torch.randn(sizes, generator=generator) * scale
        self.set_parameter(name, x.abs() + 0.5 if positive else x)
        return "self." + name

    def set_parameter(self, name, x):
        self.parameters[name] = x
        for world in self.worlds:
            setattr(world.names["self"], name, world.shaken(x.to(world.dtype)))

    def pick(self, test=lambda x: True, exact=False):
        """a random value whose tensor fits; late ones are likelier"""
        fitting = [v for v in self.values if (v.exact or not exact) and test(self.tensor(v.name))]
        if not fitting:
            return None
        return fitting[max(self.random.randrange(len(fitting)), self.random.randrange(len(fitting)))]

    def floats(self, test=lambda x: True, exact=False):
        return self.pick(lambda x: x.dtype == torch.float32 and test(x), exact)

    def dim(self, x):
        """a dimension of x, counted from either end"""
        rank = self.tensor(x.name).dim()
        return self.random.randrange(-rank, rank)

    # ---- statements

    def let(self, text, *operands, exact=False, coarse=0.0, name=None):
        """v = text. exact: exact operands give an exact result."""
        name = name or f"v{self.count}"
        results = []
        for world in self.worlds:
            try:
                results.append(eval(world.source(text), world.names))
            except Exception:
                return False
        if not all(isinstance(x, torch.Tensor) and tame(x) for x in results):
            return False
        is_exact = exact and all(v.exact for v in operands) and all(
            torch.equal(a.double() if a.is_floating_point() else a, b) for a, b in zip(results[:2], results[2:4]))
        if not is_exact and not results[0].is_floating_point():
            return False  # a jump after rounding: nobody's value is right
        if results[0].numel() > 20000 or results[0].dtype in (torch.bfloat16, torch.float16):
            return False
        self.count += 1
        # What is exact stays so, and a view stays one.
        still = is_exact or any(same_memory(results[0], self.tensor(v.name)) for v in self.values)
        for world, x in zip(self.worlds, results):
            world.names[name] = x if still else world.shaken(x)
        self.values.append(Value(name, is_exact, max([coarse, *(v.coarse for v in operands)])))
        self.lines.append(Line(text, [v.name for v in operands], exact, coarse, name=name))
        return True

    def write(self, target, text, *operands, exact=False):
        """an in-place statement on target; text has it as {}"""
        trial = text.replace("{}", "trial")
        for world in self.worlds:
            names = dict(world.names, trial=world.names[target.name].clone())
            try:
                exec(world.source(trial), names)
            except Exception:
                return False
            if not tame(names["trial"]):
                return False
        shared = [v for v in self.values if same_memory(self.tensor(v.name), self.tensor(target.name))]
        is_exact = exact and all(v.exact for v in [*shared, *operands])
        if not is_exact and not self.tensor(target.name).is_floating_point():
            return False
        for world in self.worlds:
            exec(world.source(text.replace("{}", target.name)), world.names)
        if is_exact:
            is_exact = all(torch.equal(self.tensor(target.name, w).double(), self.tensor(target.name, w + 2).double()) for w in (0, 1))
        coarse = max(v.coarse for v in [*shared, *operands, target])
        for v in shared:
            v.exact, v.coarse = is_exact, coarse
        self.lines.append(Line(text, [v.name for v in operands], exact, target=target.name))
        return True

    # ---- the whole

    def source(self):
        head = f"def forward(self, {', '.join(name for name, *_ in self.inputs)}):\n"
        return head + "".join(f"    {line}\n" for line in self.lines) + f"    return {', '.join(self.outputs)},\n"

    def module(self):
        scope = {"torch": torch, "F": F}
        exec(self.source(), scope)
        module = type("Random", (torch.nn.Module,), {"forward": scope["forward"]})()
        text = self.source()
        for name, x in self.parameters.items():
            if "self." + name in text:  # statements that were dropped again left theirs
                module.register_buffer(name, x.clone())
        return module

    def arguments(self, size):
        """the inputs that the worlds of this size began with"""
        return tuple(make(sizes, kind, size, seed) for _, sizes, kind, seed in self.inputs)


def make(sizes, kind, size, seed):
    sizes = [size if s == "B" else s for s in sizes]
    generator = torch.Generator().manual_seed(seed)
    if kind == "float":
        return torch.randn(sizes, generator=generator)
    whole = torch.randint(-8, 9, sizes, generator=generator)
    return whole / 8 if kind == "eighths" else whole if kind == "int" else whole > 0


def tame(x):
    if not x.is_floating_point():
        return not x.numel() or x.dtype == torch.bool or bool(x.abs().max() < 1 << 20)
    return bool(torch.isfinite(x).all()) and (not x.numel() or float(x.abs().max()) <= TAME)


def same_memory(x, y):
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


# ---- kinds of statements: each draws operands and adds at most a few lines -------------------------------------------

EXACT_UNARY = ["-{}", "{}.abs()", "torch.relu({})", "torch.clamp({}, -2, 2)", "{} * 0.5", "{} + 1", "{} * 2", "torch.square({})",
               "{}.clamp_min(0.25)", "F.hardtanh({})", "F.leaky_relu({}, 0.25)", "torch.clone({})", "{} - 0.125"]
SMOOTH_UNARY = ["torch.sin({})", "torch.cos({})", "torch.tanh({})", "torch.sigmoid({})", "torch.exp({}.clamp(-4, 4))", "torch.erf({})",
                "F.gelu({})", "F.gelu({}, approximate='tanh')", "F.silu({})", "torch.sqrt({}.abs() + 0.125)", "torch.log1p({}.abs())",
                "torch.rsqrt({}.abs() + 1)", "F.softplus({})", "F.hardswish({})", "F.hardsigmoid({})", "torch.reciprocal({}.abs() + 0.5)",
                "F.elu({})", "F.mish({})", "torch.atan({})", "torch.log({}.abs() + 0.25)", "torch.expm1({}.clamp(-3, 3))",
                "torch.pow({}.abs() + 0.25, 1.5)", "F.logsigmoid({})", "torch.asinh({})", "{} / 3"]
JUMPS = ["torch.floor({})", "torch.ceil({})", "torch.round({})", "torch.trunc({})", "torch.sign({})", "{}.to(torch.int64)", "{} > 0.25",
         "{} <= 0", "torch.frac({})", "{} == 0", "{}.to(torch.int32)", "torch.signbit({})"]
INTEGER = ["{} + 3", "{} * 2", "-{}", "{} // 3", "{} % 5", "{} & 6", "{} | 1", "{} ^ 3", "{} >> 1", "{}.abs()", "{} > 2", "{}.to(torch.float32)",
           "{}.to(torch.int32)", "torch.clamp({}, -4, 5)", "{}.to(torch.int8)", "torch.bitwise_not({})", "{}.to(torch.uint8)"]
EXACT_BINARY = ["{} + {}", "{} - {}", "{} * {}", "torch.maximum({}, {})", "torch.minimum({}, {})", "torch.add({}, {}, alpha=2)"]
SMOOTH_BINARY = ["{} / ({}.abs() + 1)", "torch.atan2({}, {}.abs() + 0.5)", "torch.hypot({}, {}.abs() + 0.5)", "torch.logaddexp({}, {})",
                 "torch.pow({}.abs() + 0.5, {}.clamp(-2, 2))", "torch.lerp({}, {}, 0.3)"]
COMPARISONS = ["{} < {}", "{} >= {}", "{} == {}", "{} != {}"]


def unary(p):
    r = p.random
    if r.random() < 0.4:
        x = p.floats()
        return x and p.let(r.choice(EXACT_UNARY).format(x.name), x, exact=True)
    x = p.floats()
    return x and p.let(r.choice(SMOOTH_UNARY).format(x.name), x)


def jump(p):
    x = p.floats(exact=True)
    return x and p.let(p.random.choice(JUMPS).format(x.name), x, exact=True)


def integer(p):
    x = p.pick(lambda t: t.dtype in (torch.int64, torch.int32, torch.int8, torch.uint8))
    return x and p.let(p.random.choice(INTEGER).format(x.name), x, exact=True)


def logical(p):
    x = p.pick(lambda t: t.dtype == torch.bool)
    if not x:
        return
    y = p.pick(lambda t: t.dtype == torch.bool)
    p.let(p.random.choice(["~{}", "{}.to(torch.float32)", "{} & {}", "{} | {}", "torch.logical_xor({}, {})", "{}.to(torch.int64)",
                           "{}.any()", "{}.all()"]).format(x.name, y.name), x, y, exact=True)


def broadcastable(x):
    def test(t):
        try:
            torch.broadcast_shapes(t.shape, x.shape)
            return True
        except RuntimeError:
            return False
    return test


def binary(p):
    r, x = p.random, p.pick(lambda t: t.dtype != torch.bool)
    if not x:
        return
    t = p.tensor(x.name)
    y = p.pick(lambda u: broadcastable(t)(u) and u.dtype != torch.bool)
    if r.random() < 0.6:
        return p.let(r.choice(EXACT_BINARY).format(x.name, y.name), x, y, exact=True)
    if r.random() < 0.3 and x.exact and y.exact:
        return p.let(r.choice(COMPARISONS).format(x.name, y.name), x, y, exact=True)
    if t.dtype == torch.float32 and p.tensor(y.name).dtype == torch.float32:
        p.let(r.choice(SMOOTH_BINARY).format(x.name, y.name), x, y)


def choose(p):
    mask = p.pick(lambda t: t.dtype == torch.bool)
    if not mask:
        return
    x = p.floats(broadcastable(p.tensor(mask.name)))
    if not x:
        return
    y = p.floats(broadcastable(p.tensor(x.name)))
    text = p.random.choice(["torch.where({m}, {x}, {y})", "{x}.masked_fill({m}, 0.5)", "torch.where({m}, {x}, 1.0)", "{x} * {m}"])
    p.let(text.format(m=mask.name, x=x.name, y=y.name), mask, x, y, exact=True)


def view(p):
    r, x = p.random, p.pick(lambda t: t.dim() > 0)
    if not x:
        return
    d, e = p.dim(x), p.dim(x)
    n = x.name
    size = p.tensor(n).size(d)
    texts = [f"{n}.transpose({d}, {e})", f"{n}.unsqueeze({d})", f"{n}.squeeze({d})", f"{n}.flatten()", f"{n}.narrow({d}, 1, {max(size // 2, 1)})",
             f"{n}.select({d}, {r.choice([0, -1])})", f"{n}.flip({d})", f"{n}.roll({r.randint(-2, 3)}, {d})", f"{n}.movedim({d}, {e})",
             f"{n}[1:]", f"{n}[..., ::2]", f"{n}[..., :-1]", f"{n}[None]", f"{n}.unsqueeze(-1).expand(*{n}.shape, 3)", f"{n}.reshape(-1, {n}.shape[0])",
             f"{n}.repeat({', '.join(['2'] + ['1'] * (p.tensor(n).dim() - 1))})", f"{n}.repeat_interleave(2, {d})", f"{n}.contiguous()",
             f"{n}.unfold({d}, 2, {r.choice([1, 2])})", f"{n}.diagonal(0, {d}, {e})", f"{n}.chunk(2, {d})[{r.choice([0, -1])}]",
             f"{n}.reshape({n}.shape[0], -1)", f"{n}.permute({', '.join(str(i) for i in r.sample(range(p.tensor(n).dim()), p.tensor(n).dim()))})",
             f"torch.tril({n})", f"torch.triu({n}, 1)", f"{n}.tile(2)", f"{n}.unflatten({d}, (-1, 2))", f"{n}.T.contiguous()", f"{n}.view(-1)"]
    p.let(r.choice(texts), x, exact=True)


def joins(p):
    r, x = p.random, p.pick()
    t = p.tensor(x.name)
    y = p.pick(lambda u: u.shape == t.shape and u.dtype == t.dtype)
    if t.dim() == 0 or r.random() < 0.4:
        return p.let(f"torch.stack([{x.name}, {y.name}], {r.choice([0, -1])})", x, y, exact=True)
    d = p.dim(x)
    z = p.pick(lambda u: u.dtype == t.dtype and u.dim() == t.dim() and all(a == b for i, (a, b) in enumerate(zip(u.shape, t.shape)) if i != d % t.dim()))
    p.let(f"torch.cat([{x.name}, {z.name}, {y.name}], {d})", x, y, z, exact=True)


def pad(p):
    r, x = p.random, p.floats(lambda t: t.dim() > 0)
    if x:
        p.let(r.choice([f"F.pad({x.name}, (1, 2))", f"F.pad({x.name}, (2, -1), value=0.5)", f"F.pad({x.name}, (1, 1), mode='reflect')",
                        f"F.pad({x.name}, (2, 1), mode='replicate')", f"F.pad({x.name}, (1, 0, 0, 1))"]), x, exact=True)


def reduce(p):
    r, x = p.random, p.floats(lambda t: t.numel() > 0)
    if not x:
        return
    if p.tensor(x.name).dim() == 0:
        return p.let(f"{x.name}.sum()", x, exact=True)
    d, keep = p.dim(x), r.choice([True, False])
    exact = [f"{x.name}.sum({d}, {keep})", f"{x.name}.amax({d}, {keep})", f"{x.name}.amin({d}, {keep})", f"{x.name}.cumsum({d})", f"{x.name}.sum()",
             f"{x.name}.max({d}).values", f"{x.name}.cummax({d}).values", f"{x.name}.amax()"]
    smooth = [f"{x.name}.mean({d}, {keep})", f"{x.name}.softmax({d})", f"{x.name}.log_softmax({d})", f"{x.name}.logsumexp({d})", f"{x.name}.std({d})",
              f"{x.name}.var({d}, correction=0, keepdim={keep})", f"{x.name}.norm(dim={d})", f"{x.name}.tanh().prod({d})", f"{x.name}.mean()",
              f"F.normalize({x.name}, dim={d}, eps=0.125)"]
    if r.random() < 0.45:
        return p.let(r.choice(exact), x, exact=True)
    p.let(r.choice(smooth), x)


def positions(p):
    r, x = p.random, p.floats(lambda t: t.dim() > 0 and t.numel() > 0, exact=True)
    if not x:
        return
    d, n = p.dim(x), x.name
    p.let(r.choice([f"{n}.argmax({d})", f"{n}.argmin({d})", f"{n}.sort({d}, stable=True).indices", f"{n}.sort({d}).values", f"({n} != 0).sum({d})",
                    f"{n}.any({d})", f"{n}.all({d})", f"{n}.topk(2, {d}).values", f"torch.cumsum(({n} > 0).to(torch.int64), {d})", f"{n}.argsort({d}, stable=True)"]),
          x, exact=True)


def indexed(p):
    r, x = p.random, p.floats(lambda t: t.dim() > 0)
    i = p.pick(lambda t: t.dtype == torch.int64 and t.numel() > 0)
    if not x or not i:
        return
    n, d = x.name, p.dim(x)
    flat = f"({i.name}.reshape(-1) % {n}.shape[{d}])"
    texts = [f"{n}.index_select({d}, {flat})", f"{n}[{i.name} % {n}.shape[0]]", f"F.embedding({i.name} % 7, {p.parameter([7, 5])})",
             f"F.one_hot({i.name} % 4, 4).to(torch.float32)", f"{n}.new_zeros(5).index_add(0, {flat} % 5, {n}.reshape(-1)[:1].expand({flat}.shape[0]))"]
    text = r.choice(texts)
    p.let(text, x, i, exact="embedding" not in text)


def product(p):
    r, x = p.random, p.floats(lambda t: t.dim() >= 1)
    if not x:
        return
    t, n = p.tensor(x.name), x.name
    k = t.shape[-1]
    if all(p.tensor(n, w).shape[-1] == k for w in (0, 1)) and r.random() < 0.5:
        m = r.choice([1, 4, 8, 17, 32])
        bias = p.parameter([m]) if r.random() < 0.7 else None
        return p.let(f"F.linear({n}, {p.parameter([m, k], max(k, 1) ** -0.5)}{', ' + bias if bias else ''})", x)
    y = p.floats(lambda u: u.dim() >= 1 and u.shape[-2 if u.dim() > 1 else -1] == k)
    if y and r.random() < 0.6:
        return p.let(f"torch.matmul({n}, {y.name}) * 0.25", x, y)
    if t.dim() >= 2:
        p.let(r.choice([f"torch.matmul({n}, {n}.mT) * 0.25", f"torch.einsum('...ij,...kj->...ik', {n}, {n}) * 0.25",
                        f"F.scaled_dot_product_attention({n}, {n}, {n})"]), x)


def layers(p):
    r, x = p.random, p.floats(lambda t: t.dim() >= 2)
    if not x:
        return
    t, n = p.tensor(x.name), x.name
    k = t.shape[-1]
    if any(p.tensor(n, 1).shape[i] != t.shape[i] for i in range(1, t.dim())):
        return
    channels = t.shape[1]
    kinds = [f"F.layer_norm({n}, [{k}], {p.parameter([k])}, {p.parameter([k])}, 0.125)", f"F.rms_norm({n}, [{k}], eps=0.125)"]
    if t.dim() > 2:
        kinds.append(f"F.batch_norm({n}, {p.parameter([channels])}, {p.parameter([channels], positive=True)}, eps=0.125)")
        kinds.append(f"F.group_norm({n}, 1, {p.parameter([channels])}, {p.parameter([channels])}, 0.125)")
    if t.dim() == 3:
        m = r.choice([2, 8, 16])
        kinds += [f"F.conv1d({n}, {p.parameter([m, channels, 3], 0.2)}, {p.parameter([m])}, padding=1)", f"F.avg_pool1d({n}, 2)",
                  f"F.max_pool1d({n}, 2)", f"F.interpolate({n}, scale_factor=2.0)"]
    if t.dim() == 4:
        m = r.choice([2, 8, 16])
        kinds += [f"F.conv2d({n}, {p.parameter([m, channels, 3, 3], 0.2)}, {p.parameter([m])}, padding=1, stride={r.choice([1, 2])})",
                  f"F.conv2d({n}, {p.parameter([m, channels, 1, 1], 0.3)})", f"F.avg_pool2d({n}, 2)", f"F.max_pool2d({n}, 3, 1, 1)",
                  f"F.conv2d({n}, {p.parameter([channels, 1, 3, 3], 0.3)}, padding=1, groups={channels})", f"F.adaptive_avg_pool2d({n}, 2)",
                  f"F.interpolate({n}, scale_factor=2.0, mode='bilinear')"]
    p.let(r.choice(kinds), x)


def low_precision(p):
    x = p.floats()
    if x:
        name, eps = p.random.choice([("torch.bfloat16", 2.0 ** -8), ("torch.float16", 2.0 ** -11)])
        p.let(f"{x.name}.to({name}).to(torch.float32)", x, exact=True, coarse=eps)


def in_place(p):
    r, x = p.random, p.floats(lambda t: t.dim() > 0)
    if not x or not memory_is_plain(p.tensor(x.name)):
        return
    t = p.tensor(x.name)
    y = p.floats(lambda u: broadcastable(t)(u) and torch.broadcast_shapes(u.shape, t.shape) == t.shape)
    texts = [("{}.add_(0.5)", True, ()), ("{}.mul_(0.5)", True, ()), ("{}.clamp_(-1, 1)", True, ()), ("{}.neg_()", True, ()), ("{}[0] = 0.25", True, ()),
             ("{}[..., -1:].mul_(2)", True, ()), ("{}.tanh_()", False, ()), ("{}.zero_()", True, ()), ("{}.transpose(0, -1).add_(1)", True, ()),
             ("{}[1:].copy_({}[:-1].clone())", True, ()), ("{}.fill_(0.75)", True, ()), ("{}.relu_()", True, ())]
    if y:
        texts += [("{}.add_(" + y.name + ")", True, (y,)), ("{}.copy_(" + y.name + ")", True, (y,)), ("{}.sub_(" + y.name + ", alpha=0.5)", True, (y,))]
    text, exact, operands = r.choice(texts)
    p.write(x, text, *operands, exact=exact)


def memory_is_plain(t):
    """no element of t lies where another does"""
    return all(stride > 0 or size <= 1 for size, stride in zip(t.shape, t.stride())) and t.numel() <= t.untyped_storage().nbytes() // t.element_size()


KINDS = ([unary] * 6 + [binary] * 6 + [view] * 7 + [reduce] * 4 + [product] * 2 + [layers] * 2 + [in_place] * 2 + [choose] * 2 + [joins] * 2
         + [jump, integer, integer, logical, pad, positions, indexed, low_precision])
