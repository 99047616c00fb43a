"""llama.cpp as a peer, through ``llama-cpp-python`` where it is installed.

Its BF16 file is made from the packaged one by llama.cpp's own quantize call, which may requantise: the same values that
our dequantisation gives, rounded to bf16.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch

CONTEXT = 256  # tokens; llama.cpp's own cache
BF16_FILE_TYPE = 32  # LLAMA_FTYPE_MOSTLY_BF16
BF16_TENSOR = 30  # GGML_TYPE_BF16


def available() -> str | None:
    """None where llama.cpp can run, else why it cannot."""
    try:
        import llama_cpp  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        return f"llama-cpp-python is not usable here ({error}); pip install llama-cpp-python"
    return None


def bf16_file(source: Path, folder: Path, threads: int) -> Path:
    """The BF16 version of ``source`` in ``folder``, made if it is not there."""
    import llama_cpp

    target = folder / f"{source.stem}-bf16-llama-cpp-python-{llama_cpp.__version__}.gguf"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = threads
    parameters.ftype = BF16_FILE_TYPE
    parameters.output_tensor_type = parameters.token_embedding_type = BF16_TENSOR
    parameters.allow_requantize = True
    unfinished = target.with_suffix(".part")
    with _quiet():
        status = llama_cpp.llama_model_quantize(bytes(source), bytes(unfinished), ctypes.byref(parameters))
    if status != 0:
        raise RuntimeError(f"llama.cpp could not write {target} (status {status})")
    unfinished.rename(target)
    return target


class LlamaPeer:
    """llama.cpp's decode step at the same context.

    Args:
        path: a GGUF file.
        prompt: token ids of the context.
        threads: for prompt and decoding alike.
    """

    name = "llama.cpp BF16"
    batch = 1

    def __init__(self, path: Path, prompt: list[int], threads: int) -> None:
        import llama_cpp

        self._api = llama_cpp
        self._model = llama_cpp.Llama(
            str(path), n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self._context: Any = self._model.ctx
        self._length = len(prompt)
        self._token = (ctypes.c_int32 * 1)(prompt[-1])
        self._decode((ctypes.c_int32 * len(prompt))(*prompt), len(prompt))

    def _decode(self, tokens: Any, count: int) -> None:
        status = self._api.llama_decode(self._context, self._api.llama_batch_get_one(tokens, count))
        if status != 0:
            raise RuntimeError(f"llama_decode failed with status {status}")

    def rewind(self) -> None:
        """Drop what lies beyond the context from the cache."""
        self._api.llama_memory_seq_rm(self._api.llama_get_memory(self._context), 0, self._length, -1)

    def step(self) -> None:
        """One step; asking for the logits waits for it."""
        self._decode(self._token, 1)
        self._api.llama_get_logits(self._context)

    def logits_along(self, tokens: list[int]) -> torch.Tensor:
        """As ``TorchPeer.logits_along``."""
        self.rewind()
        rows = []
        for token in tokens:
            self._decode((ctypes.c_int32 * 1)(token), 1)
            pointer = self._api.llama_get_logits(self._context)
            rows.append(np.ctypeslib.as_array(pointer, shape=(self._model.n_vocab(),)).copy())
        self.rewind()
        return torch.from_numpy(np.stack(rows))


def _quiet() -> Any:
    from llama_cpp._utils import suppress_stdout_stderr

    return suppress_stdout_stderr(disable=False)
