"""vLLM's model registry: an entry that gives our subclass of a stock class, and says of it what is said of stock."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Decoding:
    """Stands for the entry ``stock`` of the registry (duck-typed: vLLM asks an entry for nothing else)."""

    stock: Any

    def inspect_model_cls(self) -> Any:
        """What the model can do: as stock. (Another class would be inspected in a process of its own.)"""
        return self.stock.inspect_model_cls()

    def load_model_cls(self) -> type:
        """The class."""
        from onelaunch.integrations.vllm.model import decoding

        return decoding(self.stock.load_model_cls())


def override(architecture: str) -> None:
    """From now on, models of that architecture send decode batches to a launch; unknown names are left to vLLM."""
    from vllm.model_executor.models.registry import ModelRegistry

    stock = ModelRegistry.models.get(architecture)
    if stock is not None and not isinstance(stock, Decoding):
        ModelRegistry.models[architecture] = Decoding(stock)
