"""A drop-in for ``gguf.GGUFReader`` with a fast header, lent to transformers while it loads a file.

transformers (5.17 to 5.23) imports ``GGUFReader`` and ``get_tensor_name_map`` from ``gguf`` inside its loading
function, reads the header two or three times and builds the same name map once per submodule: 30 s for a 135M model on
2 cores. With the two stand-ins below it takes 5 s and gives bit-equal tensors. If a later transformers stops using
these names, the stand-ins have no effect and loading is right but slower; then this file can go.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import quant_shape_to_byte_shape

from onelaunch.models.gguf_header import STRING
from onelaunch.models.gguf_header import Field
from onelaunch.models.gguf_header import GgufHeader
from onelaunch.models.gguf_header import TensorEntry

Progress = Callable[[int, int], None]

PLAIN = {
    GGMLQuantizationType.F64: np.float64,
    GGMLQuantizationType.F32: np.float32,
    GGMLQuantizationType.F16: np.float16,
    GGMLQuantizationType.I64: np.int64,
    GGMLQuantizationType.I32: np.int32,
    GGMLQuantizationType.I16: np.int16,
    GGMLQuantizationType.I8: np.int8,
}


class TensorList:
    """The file's tensors, mapped when reached; iterating reports ``progress(done, total)``."""

    def __init__(self, header: GgufHeader, progress: Progress | None) -> None:
        self._header, self._progress = header, progress

    def __len__(self) -> int:
        return len(self._header.tensors)

    def __iter__(self) -> Iterator[SimpleNamespace]:
        blob = np.memmap(self._header.path, mode="r").view(np.ndarray)  # slices of a memmap object are slow
        for done, entry in enumerate(self._header.tensors):
            yield _tensor(blob, entry)
            if self._progress is not None:
                self._progress(done + 1, len(self))


def _tensor(blob: Any, entry: TensorEntry) -> SimpleNamespace:
    """The attributes of ``gguf.gguf_reader.ReaderTensor`` that loading uses."""
    raw = blob[entry.start : entry.start + entry.nbytes]
    if entry.kind in PLAIN:
        data = raw.view(PLAIN[entry.kind]).reshape(entry.shape)
    else:
        data = raw.reshape(quant_shape_to_byte_shape(entry.shape, entry.kind))
    return SimpleNamespace(name=entry.name, tensor_type=entry.kind, data=data, shape=np.array(entry.shape[::-1]))


def _field(field: Field) -> SimpleNamespace:
    """The attributes of ``gguf.gguf_reader.ReaderField`` that loading uses: one part for each element."""
    text = field.types[-1] == STRING
    parts = field.values if text else field.values.reshape(-1, 1)
    return SimpleNamespace(name=field.name, parts=parts, data=range(len(parts)), types=list(field.types))


def _needed(name: str, header: GgufHeader, vocabulary: bool) -> bool:
    """Loading weights reads the vocabulary for its length alone, and only where the file states no length."""
    if vocabulary or not name.startswith("tokenizer."):
        return True
    stated = f"{header.get('general.architecture')}.vocab_size" in header.fields
    return name == "tokenizer.ggml.tokens" and not stated


@contextmanager
def lend_fast_reader(header: GgufHeader, vocabulary: bool, progress: Progress | None = None) -> Iterator[None]:
    """While inside, ``gguf.GGUFReader(header.path)`` is answered from ``header``; other files are read as ever.

    Args:
        header: the parsed header of the file to load.
        vocabulary: whether the tokenizer's entries are wanted; transformers spends a second a pass on them.
        progress: called with (tensors done, tensors in all) as tensors are dequantised.
    """
    slow_reader, slow_map = gguf.GGUFReader, gguf.get_tensor_name_map
    fields = {name: _field(field) for name, field in header.fields.items() if _needed(name, header, vocabulary)}

    def reader(path: Any, mode: str = "r") -> Any:
        if Path(path).resolve() != header.path.resolve():
            return slow_reader(path, mode)
        return SimpleNamespace(fields=fields, tensors=TensorList(header, progress), get_field=fields.get)

    gguf.GGUFReader = reader
    gguf.get_tensor_name_map = functools.lru_cache(maxsize=None)(slow_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = slow_reader, slow_map
