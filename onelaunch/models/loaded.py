"""A model ready to generate, with what the loop needs to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_LIMIT = 1 << 31


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A transformers causal language model in eval mode, with its tokenizer.

    Attributes:
        model: the unmodified ``PreTrainedModel``.
        tokenizer: its tokenizer, with the chat template if it has one.
        path: the file or folder that it came from.
        name: what to call it in output.
        weights: how the weights are stored and in which dtype they run, as a phrase.
        stop_ids: token ids that end an answer.
    """

    model: Any
    tokenizer: Any
    path: Path
    name: str
    weights: str
    stop_ids: frozenset[int]

    @property
    def limit(self) -> int:
        """The most tokens, prompt and answer together, that the model has positions for."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(limit) if isinstance(limit, int) and limit > 0 else NO_LIMIT

    @property
    def pad_id(self) -> int:
        """The token that fills padded slots. It is masked, so that any token does; the file's own if it has one."""
        return int(self.tokenizer.pad_token_id or 0)


def find_stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer: what the generation config says, else the config, and the tokenizer's own."""
    found: set[int] = set()
    for source in (model.generation_config, model.config):
        ids = getattr(source, "eos_token_id", None)
        if ids is not None:
            found.update(ids if isinstance(ids, list | tuple) else [ids])
            break
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    return frozenset(int(i) for i in found)
