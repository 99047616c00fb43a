"""Attention over a cache in pages as a nest of its own, with memory that must not be looked at made poisonous."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence

import torch

from onelaunch.frontend.paged_op import paged_attend
from onelaunch.graph.graph import Node
from onelaunch.graph.nest import Kind
from onelaunch.program.program import Program
from onelaunch.transform import optimise
from tests.cpu.codegen_run import one_kernel
from tests.transform.graphs import graph_of
from tests.transform.graphs import machine

SCALE = 0.2
Views = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# Memory of N blocks of P positions with H heads of D elements, and keys and values [N, P, H, D] as views of it.
LAYOUTS: dict[str, tuple[Callable[[int, int, int, int], tuple[int, ...]], Views]] = {
    "apart": (lambda n, p, h, d: (2, n, p, h, d), lambda c: (c[0], c[1])),
    "of a position": (lambda n, p, h, d: (n, p, 2, h, d), lambda c: (c[:, :, 0], c[:, :, 1])),
    "of a row": (lambda n, p, h, d: (n, p, h, 2 * d), lambda c: c.chunk(2, -1)),
    "of a row, heads first": (lambda n, p, h, d: (n, h, p, 2 * d), lambda c: c.transpose(1, 2).chunk(2, -1)),
}


class Paged:
    """One token of each sequence. Blocks in no order; block 0 and what lies behind a length are NaN, what the table
    says of blocks behind a length names none.
    """

    def __init__(
        self, lengths: Sequence[int], heads: int = 6, kv: int = 2, size: int = 16, page: int = 16,
        layout: str = "of a row", dtype: torch.dtype = torch.bfloat16, window: int = 0, pages: int = 0,
    ) -> None:  # fmt: skip
        generator = torch.Generator().manual_seed(1)
        used = [-(-n // page) for n in lengths]
        width, blocks = max(pages, *used, 2), sum(used) + 1
        self.heads, self.kv, self.page, self.window = heads, kv, page, window
        shape, self.views = LAYOUTS[layout]
        q = torch.randn(len(lengths), heads, size, generator=generator).to(dtype)
        cache = torch.randn(shape(blocks, page, kv, size), generator=generator).to(dtype)
        table = torch.full((len(lengths), width), 10**6, dtype=torch.int32)
        order = (torch.randperm(blocks - 1, generator=generator) + 1).split(used) if any(used) else [torch.empty(0)]
        for t in self.views(cache):
            t[0] = math.nan
        for b, (length, own) in enumerate(zip(lengths, order, strict=False)):
            table[b, : len(own)] = own
            for t in self.views(cache) if length % page else ():
                t[own[-1], length % page :] = math.nan
        given = (q, cache, table, torch.tensor(lengths, dtype=torch.int32))
        self.tensors = {f"arg{i}_1": t for i, t in enumerate(given)}
        self.tensors["paged_attend"] = torch.full_like(q, 77.0)

    @property
    def cache(self) -> torch.Tensor:
        return self.tensors["arg1_1"]

    @property
    def table(self) -> torch.Tensor:
        return self.tensors["arg2_1"]

    @property
    def out(self) -> torch.Tensor:
        return self.tensors["paged_attend"]

    def function(
        self, q: torch.Tensor, cache: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        keys, values = self.views(cache)
        return paged_attend(q, keys, values, table, lengths, SCALE, self.window, 0.0)

    def want(self) -> torch.Tensor:
        return self.function(*list(self.tensors.values())[:4])

    def node(self) -> Node:
        """What attends."""
        graph = graph_of(self.function, *list(self.tensors.values())[:4])
        optimise(graph, machine(), verified=True)
        (node,) = [n for n in graph.nodes if n.nest.kind is Kind.ATTEND]
        assert node.out.name == "paged_attend"
        return node

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of a task: the queries of one sequence that share their keys."""
        return (1,) * (len(self.out) > 1) + (self.heads // self.kv,)

    def program(self) -> Program:
        return one_kernel(self.node().nest, self.tensors, self.sizes)
