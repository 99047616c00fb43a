"""Arguments without data, for tracing: one symbol for the number of tokens, one for each number of cache blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.value_ranges import ValueRanges

HINT = 8  # tokens that tracing sees; neither a size of a head nor of anything else that must not be confused with it


class Fakes:
    """Makes fake tensors in one mode."""

    def __init__(self, most_tokens: int) -> None:
        self.env = ShapeEnv(specialize_zero_one=False, duck_shape=False)
        self.mode = FakeTensorMode(shape_env=self.env)
        self.tokens = self.symbol("tokens", HINT, 1, most_tokens)
        self._blocks: dict[int, torch.SymInt] = {}

    def symbol(self, name: str, hint: int, least: int, most: int) -> torch.SymInt:
        """A size between ``least`` and ``most``."""
        source = ConstantSource(name)
        made = self.env.create_symbol(hint, source, dynamic_dim=DimDynamic.DYNAMIC)
        self.env.var_to_range[made] = ValueRanges(least, most)
        node = self.env.create_symintnode(made, hint=hint, source=source)
        assert isinstance(node, torch.SymInt), node
        return node

    def blocks(self, count: int) -> torch.SymInt:
        """The symbol that stands for this number of blocks."""
        if count not in self._blocks:
            self._blocks[count] = self.symbol(f"blocks_{len(self._blocks)}", count, 1, 2**31 - 1)
        return self._blocks[count]

    def tensor(self, like: torch.Tensor, shape: Sequence[Any], strides: Sequence[int] | None = None) -> torch.Tensor:
        """Of ``like``'s type and device; a parameter where ``like`` is one. ``strides`` None: contiguous."""
        with self.mode:
            if strides is None:
                made = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
            else:
                made = torch.empty_strided(tuple(shape), tuple(strides), dtype=like.dtype, device=like.device)
        return torch.nn.Parameter(made, requires_grad=False) if isinstance(like, torch.nn.Parameter) else made
