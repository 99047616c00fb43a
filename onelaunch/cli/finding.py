"""What one probe of the machine found."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any


class State(enum.StrEnum):
    """How a part of the machine is."""

    OK = "ok"
    ABSENT = "absent"  # not there, and nothing is wrong with that
    BROKEN = "broken"  # there, or wanted, and not usable

    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for people (``text``), and the same as plain data for scripts (``details``)."""

    name: str
    state: State
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """State and text, with the details beside them."""
        return {"state": self.state.value, "text": self.text, **self.details}
