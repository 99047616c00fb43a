"""Where a model's tensors go for a target: programs read weights in place, so the model is put where they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onelaunch.errors import UserError

if TYPE_CHECKING:
    from onelaunch.models.gguf_reader import Progress
    from onelaunch.models.loaded import LoadedModel


def device_for(target: str) -> str:
    """``cuda`` or ``cpu``; ``auto`` is the GPU where programs run on it. Raises UserError for ``cuda`` where they do
    not. Other targets ask CUDA nothing.
    """
    if target not in ("auto", "cuda"):
        return "cpu"
    from onelaunch.runtime.targets import reason_against_cuda

    reason = reason_against_cuda()
    if reason is not None and target == "cuda":
        raise UserError(f"--target cuda is not available: {reason}")
    return "cpu" if reason is not None else "cuda"


def load(source: str | None, target: str, progress: Progress | None = None) -> LoadedModel:
    """The model where ``target`` reads it. What is wrong with the target shows before anything is read."""
    from onelaunch.models.source import load_model

    device = device_for(target)
    loaded = load_model(source, progress)
    loaded.model.to(device)
    return loaded


def shown(loaded: LoadedModel) -> str:
    """What the device is called, for people."""
    import torch

    device = loaded.model.device
    return f"on {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "on the CPU"
