"""The disk cache as the runtime and the frontend use it: what a key depends on, and small JSON entries."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from onelaunch.frontend.fingerprint import source_hash
from onelaunch.frontend.options import Options
from onelaunch.program.cache import Cache
from onelaunch.program.cache import default_folder
from onelaunch.program.cache import open_cache
from onelaunch.runtime.targets import select

log = logging.getLogger(__name__)

_FILE = "plan.json"


def of(options: Options) -> Cache | None:
    """The cache that these options ask for; None: they ask for none, or it cannot be used (a warning said why)."""
    if not options.cache:
        return None
    try:
        return _open(options.cache_dir or default_folder())
    except RuntimeError:  # there is no home folder
        return _open(None)


@functools.cache
def _open(folder: Path | None) -> Cache | None:
    return open_cache(folder)


def settings(options: Options) -> tuple[str, ...]:
    """Everything besides the graph that decides what is compiled: onelaunch itself, torch, target, machine, options."""
    target = select(options.target, options.launch)
    machine = dataclasses.astuple(target.machine(options.workers))
    return (
        source_hash(), torch.__version__, target.name, target.fingerprint(), repr(machine), options.launch,
        options.fallback,
    )  # fmt: skip


def read(key: str, options: Options) -> dict[str, Any] | None:
    """The JSON value stored under ``key``; None where there is none."""
    cache = of(options)
    entry = None if cache is None else cache.find(key)
    if cache is None or entry is None:
        return None
    try:
        found = json.loads((entry / _FILE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        log.warning("cache entry %s is built anew: %s", key[:16], error)
        cache.drop(key)
        return None
    return found if isinstance(found, dict) else None


def write(key: str, value: Mapping[str, Any], options: Options) -> None:
    """Store a JSON value under ``key``, in place of what is there."""
    cache = of(options)
    if cache is None:
        return
    text = json.dumps(value, indent=1, allow_nan=False)
    cache.drop(key)
    cache.store(key, lambda folder: (folder / _FILE).write_text(text))
