"""A decode step of a random model: its weights, a filled static cache, and one more token for every row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

FORCED = 8  # steps whose results are judged
DISTINCT = 8  # rows that are prefilled; the rows of a larger batch repeat their caches
JUDGED = 4  # rows whose results are judged, spread over the batch
PARTS = ("layers", "step")  # embedding to final norm; the same and the logits

Call = Callable[..., Any]


def random_model(config: Any, device: str = "cuda") -> Any:
    """The causal language model of ``config`` in bf16, its weights as transformers initialises them."""
    import transformers

    torch.manual_seed(0)
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


class Step:
    """``model``'s step for ``batch`` rows of ``context`` positions each.

    Attributes:
        model: the model.
        context: positions in the cache at the first step.
        bytes: what a step has to read, by part: weights, and keys and values of every row.
    """

    @torch.no_grad()
    def __init__(self, model: Any, batch: int, context: int) -> None:
        self.model, self.batch, self.context = model, batch, context
        self.device = model.device
        self.cache = self._filled()
        generator = torch.Generator().manual_seed(batch)
        vocabulary = model.config.vocab_size
        self._tokens = torch.randint(0, vocabulary, (FORCED, batch, 1), generator=generator).to(self.device)
        steps = torch.arange(context, context + FORCED, device=self.device)
        self._positions = steps[:, None, None].repeat(1, batch, 1)
        self.bytes = self._bytes()

    def call_of(self, part: str) -> Any:
        """The module whose call is the part of the step."""
        return self.model.model if part == "layers" else self.model

    def run(self, call: Call, number: int = 0) -> torch.Tensor:
        """Step ``number`` after the context: hidden states or logits, [batch, 1, width]."""
        made = _run(call, self._tokens[number], self._positions[number], self.cache)
        found: torch.Tensor = made.logits if hasattr(made, "logits") else made.last_hidden_state
        return found

    def rewind(self) -> None:
        """Forget the tokens after the context."""
        _count(self.cache, self.context)

    def along(self, call: Call) -> torch.Tensor:
        """``FORCED`` steps; the judged rows of each in fp32, [steps * rows, width]."""
        self.rewind()
        rows = self._judged()
        made = [self.run(call, n)[rows, -1].float() for n in range(FORCED)]
        self.rewind()
        return torch.cat(made)

    @torch.no_grad()
    def exact(self) -> dict[str, torch.Tensor]:
        """What ``along`` gives in fp32, by part. Parameters become fp32 and bf16 again: the same bits."""
        rows = self._judged()
        cache = self._copy(rows, torch.float32)
        found: dict[str, list[torch.Tensor]] = {part: [] for part in PARTS}
        _cast(self.model, torch.float32)
        for number in range(FORCED):
            inputs = self._tokens[number, rows], self._positions[number, rows]
            hidden = _run(self.model.model, *inputs, cache).last_hidden_state
            found["layers"].append(hidden[:, -1])
            found["step"].append(self.model.lm_head(hidden)[:, -1])
        _cast(self.model, torch.bfloat16)
        return {part: torch.cat(made) for part, made in found.items()}

    def _judged(self) -> list[int]:
        return sorted({round(i * (self.batch - 1) / (JUDGED - 1)) for i in range(JUDGED)})

    def _filled(self) -> Any:
        """A cache that a prompt of random tokens has filled, row by row: few rows' activations fit beside a model."""
        import transformers

        capacity = -(-(self.context + FORCED) // 256) * 256
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, self.model.config.vocab_size, (DISTINCT, self.context), generator=generator)
        caches = []
        for row in range(min(self.batch, DISTINCT)):
            caches.append(transformers.StaticCache(config=self.model.config, max_cache_len=capacity))
            self.model.model(ids[row : row + 1].to(self.device), past_key_values=caches[-1], use_cache=True)
        first = caches[0]
        for layer, *others in zip(*(cache.layers for cache in caches), strict=True):
            for name in ("keys", "values"):
                rows = [getattr(one, name) for one in (layer, *others)]
                _place(layer, name, torch.cat([rows[r % DISTINCT] for r in range(self.batch)]))
                for one in others:
                    setattr(one, name, None)
        return first

    def _copy(self, rows: list[int], dtype: torch.dtype) -> Any:
        """The cache of some rows, at the context."""
        import transformers

        found = transformers.StaticCache(config=self.model.config, max_cache_len=self.cache.layers[0].keys.shape[2])
        for mine, layer in zip(self.cache.layers, found.layers, strict=True):
            keys, values = mine.keys[rows].to(dtype), mine.values[rows].to(dtype)
            layer.lazy_initialization(keys[:, :, :1], values[:, :, :1])
            layer.keys.copy_(keys)
            layer.values.copy_(values)
        _count(found, self.context)
        return found

    def _bytes(self) -> dict[str, int]:
        model, config = self.model, self.model.config
        embedding = model.get_input_embeddings().weight
        layers = sum(p.nbytes for p in model.model.parameters() if p is not embedding)
        cached = sum(2 * layer.keys[:, :, : self.context].nbytes for layer in self.cache.layers)
        row = self.batch * config.hidden_size * embedding.element_size()
        return {"layers": layers + cached + row, "step": layers + cached + row + model.lm_head.weight.nbytes}


def _run(call: Call, tokens: torch.Tensor, positions: torch.Tensor, cache: Any) -> Any:
    return call(tokens, past_key_values=cache, use_cache=True, position_ids=positions)


def _place(layer: Any, name: str, tensor: torch.Tensor) -> None:
    torch._dynamo.mark_static_address(tensor)  # as the cache itself does: else Inductor copies it at every call
    setattr(layer, name, tensor)


def _count(cache: Any, tokens: int) -> None:
    for layer in cache.layers:
        layer.cumulative_length.fill_(tokens)


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Parameters only: some buffers are fp32 in a model of any type."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
