"""The plugin that vLLM loads in each of its processes: `-cc.backend=onelaunch` becomes all that it needs."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

log = logging.getLogger("vllm.onelaunch")
ARCHITECTURES = "ONELAUNCH_VLLM_ARCHITECTURES"  # tells vLLM's other processes which models decode through a launch


def register() -> None:
    """Called by vLLM, possibly several times in a process. Whatever is wrong with us, vLLM starts."""
    try:
        _register()
    except Exception:
        log.exception("onelaunch: the plugin is not active")


def _register() -> None:
    from vllm.platforms import current_platform

    from onelaunch.integrations.vllm.registry import override

    _wrap(type(current_platform))
    for name in _announced():
        override(name)


def _wrap(platform: Any) -> None:
    """Our settings come in where a platform's own do: after the user's, before vLLM's defaults."""
    stock = platform.apply_config_platform_defaults
    if getattr(stock, "onelaunch", False):
        return

    @functools.wraps(stock)
    def apply(config: Any) -> None:
        configure(config)
        stock(config)

    apply.onelaunch = True  # type: ignore[attr-defined]
    platform.apply_config_platform_defaults = staticmethod(apply)


def configure(config: Any) -> None:
    """Set what ``-cc.backend=onelaunch`` asks for."""
    from onelaunch.integrations.vllm import settings

    if not settings.asked_for(config):
        return
    if (reason := settings.untested()) is not None:
        log.warning("onelaunch: %s: everything is stock", reason)
        config.compilation_config.backend = _stock_backend()
        return
    settings.rows(config)  # a wrong value is told of now
    if settings.seam(config) == "graph":
        from onelaunch.integrations.vllm import backend

        backend.configure(config)
        return
    config.compilation_config.backend = _stock_backend()
    settings.mark(config)
    if config.model_config is None:
        return
    from onelaunch.integrations.vllm.registry import override

    names = dict.fromkeys([*config.model_config.architectures, config.model_config.architecture])
    os.environ[ARCHITECTURES] = ",".join(dict.fromkeys([*_announced(), *names]))
    found = [override(name) for name in names]
    if not any(found):
        log.warning("onelaunch: no model is registered as %s: stock", " or ".join(names))


def _announced() -> list[str]:
    return [name for name in os.environ.get(ARCHITECTURES, "").split(",") if name]


def _stock_backend() -> str:
    from vllm.platforms import current_platform

    return str(current_platform.get_compile_backend())
