"""Exports a model with the two ops of threshold.c, and what PyTorch makes of an input:
  python example.py FOLDER     writes FOLDER/model.pt2, in.npz and want.npz
"""
import os
import sys

import numpy as np
import torch


@torch.library.custom_op("threshold::soft_pairs", mutates_args=())
def soft_pairs(x: torch.Tensor, limit: float = 0.5) -> torch.Tensor:
    most = x.unflatten(0, (-1, 2)).amax(1)
    return torch.nn.functional.softshrink(most, limit)


@soft_pairs.register_fake
def _(x, limit=0.5):
    return x.new_empty(x.shape[0] // 2, x.shape[1])


@torch.library.custom_op("threshold::accumulate_", mutates_args=("total",))
def accumulate_(total: torch.Tensor, x: torch.Tensor) -> None:
    total.add_(x)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 6)

    def forward(self, x):
        y = soft_pairs(self.linear(x), 0.25)
        total = torch.ones_like(y)
        accumulate_(total, y.sin())
        return total * 2, y.transpose(0, 1)


def main(folder):
    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(10, 8)
    rows = torch.export.Dim("rows", min=1, max=100)
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: 2 * rows}})
        torch.export.save(program, os.path.join(folder, "model.pt2"))
        want = model(x)
    np.savez(os.path.join(folder, "in.npz"), arg0=x.numpy())
    np.savez(os.path.join(folder, "want.npz"), **{f"out{i}": y.numpy() for i, y in enumerate(want)})


if __name__ == "__main__":
    main(sys.argv[1])
