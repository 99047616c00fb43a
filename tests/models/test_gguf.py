"""GGUF files: the header, dequantised weights, the tokenizer, and files that are not what they should be."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from onelaunch.models.gguf_file import load_gguf
from onelaunch.models.gguf_header import GgufError
from onelaunch.models.gguf_header import GgufHeader
from onelaunch.models.source import load_model
from tests.models.tiny import SPECIAL
from tests.models.tiny import save_tiny_gguf
from tests.models.tiny import tiny_model
from tests.models.tiny import tiny_tokenizer

KINDS = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory):
    return save_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_header_reads_what_the_gguf_package_reads(tiny_gguf):
    ours, theirs = GgufHeader.read(tiny_gguf), gguf.GGUFReader(tiny_gguf)
    for name, field in theirs.fields.items():
        if not name.startswith("GGUF."):
            assert ours.get(name) == field.contents(), name
    assert len(ours.fields) == len(theirs.fields) - 3
    assert [(t.name, t.kind, t.start, t.nbytes) for t in ours.tensors] == [
        (t.name, t.tensor_type, t.data_offset, t.n_bytes) for t in theirs.tensors
    ]
    assert ours.kinds == {"Q8_0": 15, "F32": 5}


@pytest.mark.parametrize("kind", [KINDS.F32, KINDS.F16, KINDS.BF16, KINDS.Q8_0, KINDS.Q4_1], ids=lambda k: k.name)
def test_weights_are_dequantised_and_in_their_places(tmp_path, kind):
    path = save_tiny_gguf(tmp_path / "m.gguf", kind)
    loaded = load_gguf(path, dtype=torch.float32)
    source = tiny_model().state_dict()
    for name, value in loaded.model.state_dict().items():
        if value.ndim == 1:
            expected = source[name].numpy()
        else:
            expected = gguf.dequantize(gguf.quantize(source[name].numpy(), kind), kind)
        assert np.array_equal(value.numpy(), expected), name
    assert kind.name in loaded.weights
    assert "dequantised to float32" in loaded.weights


def test_weights_run_in_bfloat16_by_default(tiny_gguf):
    seen = []
    loaded = load_gguf(tiny_gguf, progress=lambda done, total: seen.append((done, total)))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.weights == "15 Q8_0, 5 F32 tensors dequantised to bfloat16"
    assert seen[-1] == (20, 20)
    assert loaded.limit == 256
    assert not loaded.model.training


def test_the_fast_reader_is_only_lent(tiny_gguf):
    before = gguf.GGUFReader, gguf.get_tensor_name_map
    load_gguf(tiny_gguf)
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before


def test_tokenizer_gives_the_original_ids(tiny_gguf):
    ours, original = load_gguf(tiny_gguf).tokenizer, tiny_tokenizer()
    for text in ["hello there", "  the llama\n\n tall", "naïve 🦊 你好", "<|user|>hi<|end|>", "it's, isn't it?"]:
        assert ours(text, add_special_tokens=False).input_ids == original(text).input_ids, text
        assert ours.decode(original(text).input_ids) == text
    assert (ours.eos_token, ours.bos_token, ours.pad_token) == ("<|end|>",) * 3
    assert set(SPECIAL) <= set(ours.get_added_vocab())


def test_digits_are_split_off_where_the_vocabulary_was_learned_so(tiny_gguf):
    tokenizer = load_gguf(tiny_gguf).tokenizer
    pieces = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")]
    assert pieces == ["a", "ĠĠ", "1", "2"]


def test_chat_template_and_stop_ids(tiny_gguf):
    loaded = load_gguf(tiny_gguf)
    text = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|user|>hi\n<|assistant|>"
    assert loaded.stop_ids == {0}


def refused(path: Path, *words: str) -> None:
    with pytest.raises(GgufError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert re.search(word, message), message


def test_every_truncation_is_refused(tiny_gguf, tmp_path):
    whole = tiny_gguf.read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [4, 7, 20, 100, 1000, 5000, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused(path, "truncated")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.gguf"
    path.write_bytes(b"")
    refused(path, "not a readable GGUF")
    path.write_bytes(b"PK\x03\x04 a zip file, in truth")
    refused(path, "is not a GGUF file")
    path.write_bytes(b"GGUF\x01\x00\x00\x00" + bytes(64))
    refused(path, "version 1", "accepted: .* 2 and 3")


def test_missing_weights_are_refused(tmp_path, monkeypatch):
    real = gguf.GGUFWriter.add_tensor
    monkeypatch.setattr(
        gguf.GGUFWriter,
        "add_tensor",
        lambda self, name, *args, **kw: None if name == "blk.1.ffn_up.weight" else real(self, name, *args, **kw),
    )
    path = save_tiny_gguf(tmp_path / "m.gguf")
    with pytest.raises(Exception, match=r"lacks 1 of the model's weights, the first is .*layers\.1\.mlp\.up_proj"):
        load_model(path)
