"""Makes the example model: a small network of convolutions and attention that reads digits, trained here on drawn ones.

  python make_digits.py          (needs torch and numpy; about a minute)

writes digits.pt2 (torch.export.save, batch 1 to 256), inputs.npz (arg0: 12 images that it was not trained on),
outputs.npz (out0: what PyTorch makes of them), labels.txt.
"""
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

FONT = {  # five columns, seven rows
    0: "01110 10001 10011 10101 11001 10001 01110", 1: "00100 01100 00100 00100 00100 00100 01110",
    2: "01110 10001 00001 00110 01000 10000 11111", 3: "11111 00010 00100 00010 00001 10001 01110",
    4: "00010 00110 01010 10010 11111 00010 00010", 5: "11111 10000 11110 00001 00001 10001 01110",
    6: "00110 01000 10000 11110 10001 10001 01110", 7: "11111 00001 00010 00100 01000 01000 01000",
    8: "01110 10001 10001 01110 10001 10001 01110", 9: "01110 10001 10001 01111 00001 00010 01100",
}
GLYPHS = torch.stack([torch.tensor([[float(c) for c in row] for row in FONT[d].split()]) for d in range(10)])


def draw(count, generator):
    """images [count, 1, 32, 32] of digits turned, stretched and shifted at random, under noise; and which they are"""
    labels = torch.randint(0, 10, (count,), generator=generator)
    glyphs = F.pad(GLYPHS[labels].unsqueeze(1), (2, 2, 1, 1))

    def uniform(low, high):
        return torch.rand(count, generator=generator) * (high - low) + low

    angle, wide, high = uniform(-0.35, 0.35), uniform(0.9, 1.7), uniform(0.9, 1.7)
    grid = torch.stack([
        torch.stack([angle.cos() * wide, -angle.sin() * wide, uniform(-0.35, 0.35)], 1),
        torch.stack([angle.sin() * high, angle.cos() * high, uniform(-0.35, 0.35)], 1)], 1)
    images = F.grid_sample(glyphs, F.affine_grid(grid, [count, 1, 32, 32], align_corners=False), align_corners=False)
    return images * uniform(0.5, 1.5).view(-1, 1, 1, 1) + torch.randn(images.shape, generator=generator) * 0.15, labels


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(attended)
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Digits(nn.Module):
    def __init__(self, width=96, heads=4, layers=2):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Conv2d(64, width, 3, stride=2, padding=1))
        self.positions = nn.Parameter(torch.randn(64, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, image):
        x = self.stem(image).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x.mean(1)))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = Digits()
    steps = 300
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        images, labels = draw(64, generator)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    model.eval()
    with torch.no_grad():
        images, labels = draw(1000, generator)
        print(f"{(model(images).argmax(1) == labels).float().mean():.1%} of 1000 fresh digits read right")
        images, labels = draw(12, torch.Generator().manual_seed(2))
        outputs = model(images)
        batch = torch.export.Dim("batch", min=1, max=256)
        torch.export.save(torch.export.export(model, (images,), dynamic_shapes=({0: batch},)), f"{here}/digits.pt2")
    np.savez(f"{here}/inputs.npz", arg0=images.numpy())
    np.savez(f"{here}/outputs.npz", out0=outputs.numpy())
    with open(f"{here}/labels.txt", "w") as f:
        f.write(" ".join(str(int(d)) for d in labels) + "\n")


if __name__ == "__main__":
    main()
