"""What a user's configuration means for us, and what we set in it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from typing import Any

from onelaunch.frontend.policy import MAX_ROWS

NAMES = ("onelaunch", "mirage")  # of the backend
TESTED = ("0.24.", "0.32.", "0.33.")
SEAMS = ("model", "graph")
MARK = "asked"
ROWS_ON_GPU = 8  # sequences up to which launches beat the graphs of vLLM on an H200: benchmarks/results/vllm-h200.json
OWN = frozenset({"seam", "stock", "rows", MARK})  # of our options, those that are the integration's


def asked_for(config: Any) -> bool:
    """Whether ``-cc.backend`` names us."""
    return config.compilation_config.backend in NAMES


def given(config: Any) -> dict[str, Any]:
    """``additional_config={"onelaunch": {...}}``."""
    extra = config.additional_config
    found = extra.get("onelaunch", {}) if isinstance(extra, dict) else {}
    if not isinstance(found, dict):
        raise ValueError(f"additional_config['onelaunch'] is {found!r}; accepted: a dictionary of options")
    return found


def options(config: Any) -> dict[str, Any]:
    """Those options that are the compiler's."""
    return {k: v for k, v in given(config).items() if k not in OWN}


def seam(config: Any) -> str:
    """``model``, unless the user says ``graph``."""
    found = given(config).get("seam", SEAMS[0])
    if found not in SEAMS:
        raise ValueError(f"additional_config['onelaunch']['seam'] is {found!r}; accepted: {', '.join(SEAMS)}")
    return str(found)


def rows(config: Any) -> int:
    """Batches up to so many sequences are launched: on a GPU up to where that is faster, unless the user says more."""
    found = given(config).get("rows", ROWS_ON_GPU if config.device_config.device_type == "cuda" else MAX_ROWS)
    if type(found) is not int or not 1 <= found <= MAX_ROWS:
        raise ValueError(f"additional_config['onelaunch']['rows'] is {found!r}; accepted: 1 to {MAX_ROWS}")
    return found


def sizes(config: Any) -> tuple[int, ...]:
    """Numbers of tokens of which vLLM captures graphs of launches: what it runs is padded to these. In a graph for all
    kinds of batches there are none.
    """
    own = config.compilation_config
    mode = own.cudagraph_mode
    if config.device_config.device_type != "cuda" or not (mode.has_full_cudagraphs() and mode.separate_routine()):
        return ()
    return tuple(n for n in own.cudagraph_capture_sizes or () if n <= rows(config))


def untested() -> str | None:
    """What is to be said of this version of vLLM; None: it is a tested one."""
    version = importlib.metadata.version("vllm")
    if version.startswith(TESTED):
        return None
    return f"vLLM {version} is not among the tested versions: {', '.join(v + 'x' for v in TESTED)}"


def reason_for_stock(config: Any) -> str | None:
    """Why no decode step of this configuration can be a launch; None: nothing known."""
    if (reason := untested()) is not None:
        return reason
    for name, what in _SWITCHES.items():
        if os.environ.get(name, "0") not in ("", "0"):
            return f"{name} ({what})"
    parallel = config.parallel_config
    for name in _PARALLEL:
        if (size := getattr(parallel, name, 1)) > 1:
            return f"{name} {size}; accepted: 1"
    if getattr(config, "kv_transfer_config", None) is not None:
        return "a KV connector, which has to be told of every layer"
    if config.lora_config is not None:
        return "LoRA"
    if config.speculative_config is not None:
        return "speculative decoding"
    if config.quant_config is not None:
        return f"weights quantised by {config.quant_config.get_name()}"
    if str(config.cache_config.cache_dtype) not in ("auto", "bfloat16", "float16", "float32"):
        return f"a cache of {config.cache_config.cache_dtype}; accepted: auto, bfloat16, float16, float32"
    if config.model_config.is_encoder_decoder:
        return "an encoder and a decoder"
    return None


_SWITCHES = {
    "TORCH_COMPILE_DISABLE": "nothing can be traced",
    "VLLM_BATCH_INVARIANT": "programs of different sizes may round differently",
}
_PARALLEL = (
    "tensor_parallel_size", "pipeline_parallel_size", "decode_context_parallel_size", "prefill_context_parallel_size",
)  # fmt: skip


def mark(config: Any) -> None:
    """Note in the configuration, which travels to all of vLLM's processes, that its user has asked for us."""
    extra = config.additional_config
    if not isinstance(extra, dict):
        raise ValueError(f"additional_config is a {type(extra).__name__}; accepted with onelaunch: a dictionary")
    config.additional_config = {**extra, "onelaunch": {**given(config), MARK: True}}


def is_marked(config: Any) -> bool:
    """Whether ``mark`` has been here."""
    return MARK in given(config)


@contextlib.contextmanager
def clean_graph() -> Iterator[None]:
    """While a graph is traced for us, vLLM's IR operators stay whole: one meaning, whatever kernel is chosen."""
    try:
        from vllm.ir.op import enable_torch_wrap
    except ImportError:
        yield
        return
    with enable_torch_wrap(True):
        yield
