"""No line of the package's code names a model (decision 1): models come in as graphs."""

import re
from pathlib import Path

import pytest

import onelaunch
from tests.support.configurations import BY_NAME

PACKAGE = Path(onelaunch.__file__).parent
SUFFIXES = {".py", ".h", ".cuh", ".cpp", ".cu"}
# Model types that are also words of this project, of Python or of PTX.
WORDS = {"bit", "ctrl", "cvt", "data", "fast", "git", "got", "led", "mask", "nat", "opt", "rag", "sam", "seed",
         "switch", "time", "align", "big", "bark", "bridge", "depth", "embedding", "encoder", "pop", "prompt", "step",
         "table", "text", "timm", "video", "vision"}  # fmt: skip
ALLOWED = {
    ("models/packaged.py", "smollm"),  # the file's one job: the name of the package that holds the default weights
    ("models/byte_level.py", "gpt"),  # a comment on a tokenizer's rule
    ("models/gguf_file.py", "gpt"),  # what the file format calls that kind of tokenizer
}


def families():
    """First words of all model types of transformers, and of the matrix."""
    from transformers import CONFIG_MAPPING

    types = {*CONFIG_MAPPING.keys(), *(c.kind for c in BY_NAME.values())}
    first = {re.split(r"[\d_.\-]", t)[0].lower() for t in types}
    return {w for w in first if len(w) >= 3} - WORDS


def found(text, names):
    pattern = re.compile(rf"(?<![a-z])({'|'.join(sorted(names, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
    return {m[0].lower() for m in pattern.finditer(text)}


def test_no_model_is_named():
    names = families()
    assert {"llama", "qwen", "gemma", "mistral", "phi", "gpt", "olmo", "granite", "cohere", "stablelm"} <= names
    hits = set()
    for path in PACKAGE.rglob("*"):
        if path.suffix in SUFFIXES:
            inside = path.relative_to(PACKAGE).as_posix()
            hits |= {(inside, name) for name in found(path.read_text(), names)}
    assert hits <= ALLOWED


@pytest.mark.parametrize(
    "line", ["if model_type == 'llama':", "def _gemma2_norm():", "GPTNeoX = 1  # gpt-neox", "Qwen3"]
)
def test_control(line):
    assert found(line, families())
