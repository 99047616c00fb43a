"""Loading a model and its tokenizer from a folder in transformers' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onelaunch.models.build import ModelLoadError
from onelaunch.models.build import build_model
from onelaunch.models.build import first_line
from onelaunch.models.build import quiet_transformers
from onelaunch.models.loaded import LoadedModel
from onelaunch.models.loaded import find_stop_ids
from onelaunch.models.safetensors_file import check_safetensors

ACCEPTED = "accepted: a folder with config.json, *.safetensors and the tokenizer's files"


def load_folder(path: Path) -> LoadedModel:
    """Load a folder saved by ``save_pretrained`` (or a Hub snapshot) in the dtype that it states.

    Raises:
        ModelLoadError: a file is missing, truncated or not understood; weights in pickled form are not accepted.
    """
    config = _json(path / "config.json")
    for shard in _shards(path):
        check_safetensors(shard)
    model = build_model(path, path, dtype="auto", use_safetensors=True)
    tokenizer = _tokenizer(path)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        path=path,
        name=str(config.get("_name_or_path") or path.resolve().name),
        weights=f"{str(model.dtype).removeprefix('torch.')} as stored",
        stop_ids=find_stop_ids(model, tokenizer),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelLoadError(f"cannot read {path}: {error.strerror}; {ACCEPTED}") from None
    except ValueError:
        raise ModelLoadError(f"{path} is not valid JSON") from None
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path} does not hold a JSON object")
    return content


def _shards(path: Path) -> list[Path]:
    """The weight files: those the index names, else every safetensors file of the folder."""
    index = path / "model.safetensors.index.json"
    if index.exists():
        names = _json(index).get("weight_map", {}).values()
        return sorted(path / name for name in set(names))
    shards = sorted(path.glob("*.safetensors"))
    if not shards:
        raise ModelLoadError(f"{path} holds no *.safetensors file; {ACCEPTED}")
    return shards


def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise ModelLoadError(f"cannot load the tokenizer in {path}: {first_line(error)}") from error
