"""Loading a model and its tokenizer from one GGUF file, weights dequantised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from onelaunch.models.build import ModelLoadError
from onelaunch.models.build import build_model
from onelaunch.models.build import first_line
from onelaunch.models.build import quiet_transformers
from onelaunch.models.byte_level import correct_byte_level
from onelaunch.models.gguf_header import GgufHeader
from onelaunch.models.gguf_reader import Progress
from onelaunch.models.gguf_reader import lend_fast_reader
from onelaunch.models.loaded import LoadedModel
from onelaunch.models.loaded import find_stop_ids

BYTE_LEVEL = "gpt2"  # the format's name for byte-level BPE, whatever the model
# The metadata keys of special tokens, and the names that transformers gives them.
SPECIAL = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}


def load_gguf(path: Path, dtype: torch.dtype = torch.bfloat16, progress: Progress | None = None) -> LoadedModel:
    """Load ``path`` with every weight dequantised to ``dtype``.

    Quantised types are unpacked in fp32 and rounded once to ``dtype``; no quantised arithmetic is used.

    Args:
        path: a GGUF file of version 2 or 3 that holds a text model with its tokenizer.
        dtype: what the weights run in.
        progress: called with (tensors done, tensors in all).

    Raises:
        GgufError: the file is absent, truncated or not GGUF.
        ModelLoadError: transformers knows no such architecture, or weights are missing.
    """
    from transformers import GgufConfig

    header = GgufHeader.read(path)
    with lend_fast_reader(header, vocabulary=False, progress=progress):
        model = build_model(
            path, path.parent, gguf_file=path.name, dtype=dtype, quantization_config=GgufConfig(dequantize=True)
        )
    with lend_fast_reader(header, vocabulary=True):
        tokenizer = _tokenizer(header)
    stop_ids = _stop_ids(header) or find_stop_ids(model, tokenizer)
    # transformers takes the architecture's usual ids where the file's are 0; the file is right.
    model.generation_config.eos_token_id = sorted(stop_ids)
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    kinds = ", ".join(f"{count} {kind}" for kind, count in header.kinds.items())
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        path=path,
        name=path.stem,
        weights=f"{kinds} tensors dequantised to {str(dtype).removeprefix('torch.')}",
        stop_ids=stop_ids,
    )


def _stop_ids(header: GgufHeader) -> frozenset[int]:
    found = (header.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    return frozenset(int(token_id) for token_id in found if token_id is not None)


def _tokenizer(header: GgufHeader) -> Any:
    from transformers import PreTrainedTokenizerFast

    if "tokenizer.ggml.tokens" not in header.fields:
        raise ModelLoadError(f"{header.path} holds no tokenizer; accepted: a GGUF file of a text model")
    try:
        with quiet_transformers():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(header.path.parent, gguf_file=header.path.name)
    except Exception as error:
        raise ModelLoadError(f"cannot build the tokenizer of {header.path}: {first_line(error)}") from error
    # transformers before 5.20 exchanges the beginning and end tokens of some files; the file itself is right.
    for name, key in SPECIAL.items():
        token_id = header.get(key)
        if token_id is not None:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(token_id))
    template = header.get("tokenizer.chat_template")
    if template:
        tokenizer.chat_template = template
    if header.get("tokenizer.ggml.model") == BYTE_LEVEL:
        correct_byte_level(tokenizer)
    return tokenizer
