"""Teacher-forced decode steps of a batch of prompts of different lengths, and their errors against fp32."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from onelaunch.models.decode_state import DecodeState
from onelaunch.models.decode_step import DecodeStep

STEPS, LIMIT = 64, 1.2


@dataclasses.dataclass
class Case:
    """A bf16 model on a device, prompts of ragged lengths (padded on the left), and the tokens that are fed to it."""

    model: Any
    prompts: list[list[int]]
    fed: torch.Tensor  # [rows, STEPS]

    @classmethod
    def of(cls, model: Any, rows: int, longest: int = 40) -> Case:
        draw = torch.Generator().manual_seed(rows)
        vocabulary = model.config.vocab_size
        lengths = [longest - (7 * row) % (longest - 3) for row in range(rows)]
        prompts = [torch.randint(0, vocabulary, (n,), generator=draw).tolist() for n in lengths]
        fed = torch.randint(0, vocabulary, (rows, STEPS), generator=draw)
        return cls(model, prompts, fed.to(model.device))

    def state(self, model: Any = None) -> DecodeState:
        longest = max(map(len, self.prompts))
        state = DecodeState(model or self.model, self.prompts, capacity=longest + STEPS + 3, pad_id=0)
        with torch.no_grad():
            state.prefill()
        return state

    @torch.no_grad()
    def run(self, step: DecodeStep, state: DecodeState) -> torch.Tensor:
        """Logits in fp32, [rows, STEPS, vocabulary]."""
        state.tokens = self.fed[:, :1].clone()
        found = []
        for n in range(STEPS):
            found.append(step(state)[:, -1].float().clone())
            state.advance(self.fed[:, n + 1 : n + 2].clone())
        return torch.stack(found, 1)

    def eager(self, damage: Callable[[Any], None] | None = None) -> torch.Tensor:
        state = self.state()
        if damage is not None:
            damage(state.cache)
        return self.run(DecodeStep(self.model, None), state)

    def compiled(self, target: str, damage: Callable[[Any], None] | None = None) -> torch.Tensor:
        torch._dynamo.reset()
        state = self.state()
        if damage is not None:
            damage(state.cache)
        options = {"target": target, "fallback": "error", "cache": False}
        return self.run(DecodeStep(self.model, options=options), state)

    def exact(self) -> torch.Tensor:
        """fp32 from what the prompt left in the bf16 cache, so that the error is that of the steps alone."""
        model = copy.deepcopy(self.model)
        for parameter in model.parameters():  # some buffers are fp32 in any model
            parameter.data = parameter.data.float()
        state, half = self.state(model), self.state()
        for layer, rounded in zip(state.cache.layers, half.cache.layers, strict=True):
            layer.keys.copy_(rounded.keys)
            layer.values.copy_(rounded.values)
        return self.run(DecodeStep(model, None), state)


def worst_ratio(got: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest, over rows, of an error (norm of all steps' differences over the norm) over eager's; nan is inf."""
    ours, theirs = ((x - exact).flatten(1).norm(dim=1) for x in (got, eager))
    return float((ours / theirs).nan_to_num(torch.inf, torch.inf).max())


def damage_one_slot(cache: Any) -> None:
    """The sign of one position of one row's values, in one layer."""
    values = cache.layers[0].values
    values[-1, :, values.shape[2] - STEPS - 6] *= -1  # three before the last of the prompt: no row has it as padding


def damage_one_weight(model: Any) -> None:
    """One row of one matrix."""
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3] *= -1
