"""Counting the torch operators that a piece of code runs, as torch itself sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class OperatorCounter(TorchDispatchMode):
    """While active, counts every operator that reaches torch's dispatcher, by name.

    Dynamo refuses to run compiled code under a mode that does not declare itself indifferent to compilation, and would
    then run (and count) the model op by op. This mode observes only, so it says so; code compiled before keeps being
    used, and operators that compiled code calls are counted all the same.
    """

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """This mode changes nothing, so compiled code stays valid under it."""
        return True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many operators ran."""
        return self.names.total()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names[str(func)] += 1
        return func(*args, **(kwargs or {}))
