"""A decoder layer in plain torch, explained and drawn: ``python docs/example.py [FOLDER]``.

Prints what the layer compiles to and writes ``example.svg`` (ops and dependencies) and ``example.queues.svg`` (the queue
of each worker) to FOLDER, by default ``docs/img``, where the README shows them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import nn

import onelaunch

HIDDEN, HEADS, KV_HEADS, SIZE, INNER, LENGTH = 256, 8, 2, 32, 640, 128


class Layer(nn.Module):
    """One layer of a decoder: attention over a cache, then a gated MLP. A call decodes one token."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.RMSNorm(HIDDEN), nn.RMSNorm(HIDDEN)
        self.query = nn.Linear(HIDDEN, HEADS * SIZE, bias=False)
        self.key = nn.Linear(HIDDEN, KV_HEADS * SIZE, bias=False)
        self.value = nn.Linear(HIDDEN, KV_HEADS * SIZE, bias=False)
        self.out = nn.Linear(HEADS * SIZE, HIDDEN, bias=False)
        self.gate, self.up = nn.Linear(HIDDEN, INNER, bias=False), nn.Linear(HIDDEN, INNER, bias=False)
        self.down = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, position: Tensor) -> Tensor:
        """``x`` [1, HIDDEN]; the caches [1, KV_HEADS, LENGTH, SIZE] are updated in place at ``position`` [1]."""
        h = self.norm_1(x)
        keys.index_copy_(2, position, self.key(h).view(1, 1, KV_HEADS, SIZE).transpose(1, 2))
        values.index_copy_(2, position, self.value(h).view(1, 1, KV_HEADS, SIZE).transpose(1, 2))
        q = self.query(h).view(1, 1, HEADS, SIZE).transpose(1, 2)
        mask = (torch.arange(LENGTH) <= position).view(1, 1, 1, LENGTH)
        a = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)
        x = x + self.out(a.transpose(1, 2).reshape(1, HEADS * SIZE))
        h = self.norm_2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def main() -> None:
    """Explain one call."""
    torch.manual_seed(0)
    layer = Layer().eval().to(torch.bfloat16)
    caches = [torch.zeros(1, KV_HEADS, LENGTH, SIZE, dtype=torch.bfloat16) for _ in range(2)]
    x = torch.randn(1, HIDDEN, dtype=torch.bfloat16)
    with torch.no_grad():
        found = onelaunch.explain(layer, x, *caches, torch.tensor([64]), options={"workers": 4, "cache": False})
    print(found)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "img"
    for file in found.save(folder / "example"):
        print(f"written: {file}")


if __name__ == "__main__":
    main()
