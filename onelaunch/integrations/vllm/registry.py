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


def override(architecture: str) -> bool:
    """Models of that architecture are made by our subclass from now on (which leaves those alone whose configuration
    has not asked for us). False: vLLM has no such model.
    """
    from vllm.model_executor.model_loader import utils
    from vllm.model_executor.models.registry import ModelRegistry

    stock = ModelRegistry.models.get(architecture)
    if stock is None:
        return False
    if not isinstance(stock, Decoding):
        ModelRegistry.models[architecture] = Decoding(stock)
        getattr(utils, "_MODEL_ARCH_BY_HASH", {}).clear()  # classes found before
    return True
