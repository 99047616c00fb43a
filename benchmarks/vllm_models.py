"""Folders that ``vllm serve`` reads without a network: weights and a tokenizer. See ``vllm_serve``."""

from __future__ import annotations

from pathlib import Path

from benchmarks.configurations import TITLES

PACKAGED = "instruct"  # the real weights of the packaged model
READY = "ready"  # a file that says that a folder is complete


def title(shape: str) -> str:
    """The model's name, for people."""
    from onelaunch.models.packaged import TITLE

    return TITLE if shape == PACKAGED else TITLES[shape]


def folder(shape: str, layers: int | None, dtype: str, within: Path) -> Path:
    """The folder of a model; it is made where there is none."""
    place = within / "-".join([shape, *([] if layers is None else [str(layers)]), dtype])
    if not (place / READY).exists():
        if shape == PACKAGED:
            packaged(place, dtype)
        else:
            from benchmarks.vllm_engine import weights

            weights(shape, layers, dtype, place)
            tokenizer(place)
        (place / READY).touch()
    return place


def vocabulary(place: Path) -> int:
    """How many tokens a model has."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(place).vocab_size)


def tokenizer(place: Path) -> None:
    """A tokenizer for random weights: one word a token. Servers turn tokens into text, as they do for real models."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = {f"t{i}": i for i in range(vocabulary(place))}
    made = Tokenizer(WordLevel(words, unk_token="t0"))
    made.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="t0").save_pretrained(place)


def packaged(place: Path, dtype: str) -> None:
    """The packaged model, dequantised, with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers import AutoTokenizer

    from onelaunch.models.packaged import packaged_model

    file = packaged_model()
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=getattr(torch, dtype))
    config = type(loaded.config).from_dict(
        {name: value for name, value in loaded.config.to_dict().items() if name != "quantization_config"}
    )
    model = type(loaded)(config).to(loaded.dtype)  # what was loaded remembers that it was quantised: it cannot be saved
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(place)
    AutoTokenizer.from_pretrained(**source).save_pretrained(place)
