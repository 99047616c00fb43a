"""From what a user calls a model to a loaded one."""

from __future__ import annotations

from pathlib import Path

from onelaunch.models.build import ModelLoadError
from onelaunch.models.gguf_reader import Progress
from onelaunch.models.loaded import LoadedModel
from onelaunch.models.packaged import packaged_model

ACCEPTED = "accepted: a .gguf file, or a folder of a transformers model (config.json, *.safetensors, tokenizer files)"


def load_model(source: str | Path | None = None, progress: Progress | None = None) -> LoadedModel:
    """Load a model for generation.

    Args:
        source: a folder, a GGUF file, or None for the packaged default model.
        progress: called with (tensors done, tensors in all) while a GGUF file is dequantised.

    Raises:
        ModelLoadError, GgufError: one line that names the file and what is accepted.
    """
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise ModelLoadError("loading models needs the extra packages: pip install 'onelaunch[models]'") from None
    from onelaunch.models.folder import load_folder
    from onelaunch.models.gguf_file import load_gguf

    path = packaged_model() if source is None else Path(source).expanduser()
    if path.is_dir():
        return load_folder(path)
    if not path.exists():
        raise ModelLoadError(f"no model at {path}: no such file or folder; {ACCEPTED}")
    if path.suffix == ".gguf":
        return load_gguf(path, progress=progress)
    raise ModelLoadError(f"{path} is not a model that can be read; {ACCEPTED}")
