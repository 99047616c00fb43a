"""What a user may set with ``torch.compile(..., options={...})``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onelaunch.errors import OptionError

log = logging.getLogger(__name__)

TARGETS = ("auto", "cpu", "cuda", "reference")
LAUNCHES = ("one", "graph")
FALLBACKS = ("torch", "error")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The settings of one compilation; every field is an option of the same name."""

    target: str = "auto"  # what programs run on; auto: where the arguments are
    workers: int | None = None  # None: the target's default
    launch: str = "one"  # of a program on a GPU; graph: one an op, to be captured in a CUDA graph
    fallback: str = "torch"  # what to do with an op that cannot be lowered: leave it to torch, or raise
    check: bool = True  # refuse a program whose certificate fails
    cache: bool = True  # keep compiled programs on disk
    cache_dir: Path | None = None  # None: the user's cache folder
    dump_dir: Path | None = None  # where to write every level of every program, for people

    @property
    def devices(self) -> frozenset[str]:
        """Torch device types whose tensors the target reads in place."""
        return frozenset({"cuda" if self.target == "cuda" else "cpu"})


def parse(options: Mapping[str, Any] | None = None) -> Options:
    """Options from what the user gave. Raises OptionError on an unknown name or a value outside what is accepted."""
    values: dict[str, Any] = {}
    accepted = [f.name for f in dataclasses.fields(Options)]
    for name, value in (options or {}).items():
        if name not in accepted:
            raise OptionError(f"unknown option {name!r}; accepted: {', '.join(accepted)}")
        values[name] = _READERS[name](name, value)
    return Options(**values)


def explain_mode(mode: object) -> None:
    """Say once what ``mode=`` means here: nothing, because a program is always one launch."""
    if mode is not None and mode not in _EXPLAINED:
        _EXPLAINED.add(mode)
        log.warning("mode=%r has no meaning for this backend and is ignored: a program is one launch in any mode", mode)


_EXPLAINED: set[object] = set()


def _one_of(*accepted: str) -> Any:
    def read(name: str, value: object) -> str:
        if value not in accepted:
            raise OptionError(f"option {name!r} is {value!r}; accepted: {', '.join(accepted)}")
        return str(value)

    return read


def _workers(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"option {name!r} is {value!r}; accepted: a positive integer, or None for the default")
    return value


def _switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"option {name!r} is {value!r}; accepted: True, False")
    return value


def _folder(name: str, value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise OptionError(f"option {name!r} is {value!r}; accepted: a path, or None for the default")
    return Path(value).expanduser()


_READERS: dict[str, Any] = {
    "target": _one_of(*TARGETS),
    "workers": _workers,
    "launch": _one_of(*LAUNCHES),
    "fallback": _one_of(*FALLBACKS),
    "check": _switch,
    "cache": _switch,
    "cache_dir": _folder,
    "dump_dir": _folder,
}
