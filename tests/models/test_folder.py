"""Folders in transformers' layout, and what is wrong with some of them."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from onelaunch.models.build import ModelLoadError
from onelaunch.models.source import load_model
from tests.models.tiny import tiny_model


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def refused(source) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load_model(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_loads_weights_as_stored(tiny_folder):
    loaded = load_model(tiny_folder)
    for name, value in tiny_model().state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name
    assert loaded.weights == "float32 as stored"
    assert loaded.stop_ids == {0}
    assert loaded.limit == 256
    assert not loaded.model.training


def test_absent(tmp_path):
    message = refused(tmp_path / "nothing")
    assert "no such file or folder" in message
    assert "accepted:" in message


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    assert "accepted:" in refused(tmp_path / "model.onnx")


def test_no_config(folder):
    (folder / "config.json").unlink()
    message = refused(folder)
    assert "config.json: No such file" in message
    assert "accepted:" in message


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_bad_config(folder, text):
    (folder / "config.json").write_text(text)
    assert str(folder / "config.json") in refused(folder)


def test_unknown_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "nonsuch"}))
    assert str(folder) in refused(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    assert "holds no *.safetensors" in refused(folder)


@pytest.mark.parametrize("keep", [0, 5, 30, -1])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert str(path) in refused(folder)


def test_missing_shard(folder):
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors: No such file" in refused(folder)


def test_missing_weights_are_not_made_up(folder):
    from safetensors.torch import load_file
    from safetensors.torch import save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 of the model's weights" in refused(folder)


def test_no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert f"cannot load the tokenizer in {folder}" in refused(folder)
