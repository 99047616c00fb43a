"""The probes of ``onelaunch doctor --vllm``: would ``vllm serve MODEL -cc.backend=onelaunch`` find what it needs."""

from __future__ import annotations

import importlib
import os
from importlib import metadata

from onelaunch.cli.finding import Finding
from onelaunch.cli.finding import State

GROUP = "vllm.general_plugins"
PLUGIN = "onelaunch"
# What we take hold of in vLLM: module and attribute.
HOLDS = (
    ("vllm.platforms", "current_platform"),
    ("vllm.forward_context", "get_forward_context"),
    ("vllm.compilation.wrapper", "TorchCompileWithNoGuardsWrapper"),
    ("vllm.model_executor.models.registry", "ModelRegistry"),
    ("vllm.ir.op", "IrOp"),
)


def version() -> Finding:
    """Whether vLLM is there, and among the versions that the tests run."""
    from onelaunch.integrations.vllm.settings import TESTED

    try:
        found = metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return Finding("vllm", State.ABSENT, "not installed: pip install vllm", {"version": None, "tested": False})
    tested = found.startswith(TESTED)
    known = ", ".join(f"{v}x" for v in TESTED)
    text = found if tested else f"{found} is not among the tested versions ({known}): everything runs as stock vLLM"
    return Finding("vllm", State.OK if tested else State.BROKEN, text, {"version": found, "tested": tested})


def plugin() -> Finding:
    """Whether vLLM's processes will load our plugin."""
    ours = [p for p in metadata.entry_points(group=GROUP) if p.name == PLUGIN]
    chosen = os.environ.get("VLLM_PLUGINS")
    details = {"installed": bool(ours), "VLLM_PLUGINS": chosen}
    if not ours:
        return Finding("vllm plugin", State.BROKEN, "no entry point: install onelaunch beside vLLM with pip", details)
    if chosen is not None and PLUGIN not in chosen.split(","):
        text = f"VLLM_PLUGINS={chosen!r} leaves it out; add {PLUGIN}, or unset the variable"
        return Finding("vllm plugin", State.BROKEN, text, details)
    return Finding("vllm plugin", State.OK, f"{ours[0].value}; -cc.backend=onelaunch is enough", details)


def holds() -> Finding:
    """Whether what we take hold of is where it was in the tested versions."""
    missing = []
    for module, name in HOLDS:
        try:
            if not hasattr(importlib.import_module(module), name):
                missing.append(f"{module}.{name}")
        except Exception as error:  # noqa: BLE001 a broken installation breaks anything
            missing.append(f"{module} ({type(error).__name__}: {' '.join(str(error).split())[:120]})")
    details = {"missing": missing}
    if missing:
        return Finding("vllm seams", State.BROKEN, f"not found: {', '.join(missing)}", details)
    return Finding("vllm seams", State.OK, f"all {len(HOLDS)} found", details)
