"""The seam through ``torch.compile``: vLLM hands over the whole graph of a decoder stack, once.

Of its calls, decode batches are launches; everything else runs in what ``stock`` makes of the graph. vLLM's cache of
compiled functions keeps both, and the next start takes them without tracing (``VLLM_USE_AOT_COMPILE``).
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch._dynamo.aot_compile_types import SerializableCallable
from torch.fx import GraphModule

import onelaunch
from onelaunch.errors import OnelaunchError
from onelaunch.integrations.vllm import stock
from onelaunch.integrations.vllm.launcher import Launcher

log = logging.getLogger("vllm.onelaunch")
OF_CURRENT = "of_current_config"  # resolved by __getattr__


def configure(config: Any) -> None:
    """Let vLLM hand over whole graphs to us; what the user has set stays. Raises ValueError for what excludes that."""
    from vllm.config import CompilationMode
    from vllm.config import CUDAGraphMode
    from vllm.platforms import current_platform

    stock.kind(config)
    compilation = config.compilation_config
    if compilation.mode == CompilationMode.NONE and _compiles_nothing(config):
        log.warning("onelaunch: nothing is compiled (enforce_eager): everything is stock")
        compilation.backend = str(current_platform.get_compile_backend())
        return
    compilation.mode = _mode(compilation.mode)
    if not {"all", "none"} & set(compilation.custom_ops):
        compilation.custom_ops.append("none")  # plain torch, which has one meaning, instead of kernels
    if compilation.ir_enable_torch_wrap is None:
        compilation.ir_enable_torch_wrap = True  # else Dynamo would trace into the kernels that vLLM chose
    if compilation.cudagraph_mode is None:
        compilation.cudagraph_mode = CUDAGraphMode.FULL_DECODE_ONLY
    compilation.backend = f"{__name__}.{OF_CURRENT}"


def _mode(given: Any) -> Any:
    from vllm.config import CompilationMode

    once, stock_torch = CompilationMode.DYNAMO_TRACE_ONCE, CompilationMode.STOCK_TORCH_COMPILE
    if given is None:
        return once
    if given not in (once, stock_torch):
        accepted = ", ".join(f"{int(m)} ({m.name})" for m in (once, stock_torch))
        raise ValueError(
            f"compilation mode {int(given)} ({given.name}) with the seam graph of onelaunch; "
            f"accepted: {accepted}, or none set"
        )
    if given == stock_torch:
        log.warning(
            "onelaunch: in compilation mode 1, vLLM uses no CUDA graphs, and what Dynamo traces with fixed sizes "
            "(one sequence, for example) is stock"
        )
    return given


def _compiles_nothing(config: Any) -> bool:
    eager = config.model_config is not None and config.model_config.enforce_eager
    return eager or os.environ.get("TORCH_COMPILE_DISABLE") == "1"


def __getattr__(name: str) -> Any:
    """vLLM looks the backend's name up where a model is made, the one place where its configuration is current."""
    if name != OF_CURRENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vllm.config import get_current_vllm_config

    return backend(get_current_vllm_config())


def backend(config: Any) -> Callable[..., WholeGraph]:
    """The backend of one configuration, for ``torch.compile``."""

    def onelaunch_of_vllm(gm: GraphModule, inputs: Sequence[Any], **_: Any) -> WholeGraph:
        names = {i: value.value for i, value in enumerate(inputs) if isinstance(getattr(value, "value", None), str)}
        made = WholeGraph(gm, names, stock.kind(config).compile(gm, inputs, config))
        made.finalize_loading(config)
        return made

    return onelaunch_of_vllm


class WholeGraph(SerializableCallable):
    """``names``: of the layers, by the number of the argument that holds one (an object of vLLM's, not kept)."""

    def __init__(self, gm: GraphModule, names: dict[int, str], otherwise: stock.Stock) -> None:
        self.gm, self.names, self.stock = gm, names, otherwise
        self._launcher: Launcher | None = None

    def __call__(self, *args: Any) -> Sequence[Any]:
        """The graph's results."""
        launcher = self._launcher
        assert launcher is not None, "finalize_loading comes first"
        found: Sequence[Any] | None = launcher.attempt(lambda: launcher.launch(args))
        return self.stock(*args) if found is None else found

    def finalize_loading(self, vllm_config: Any) -> None:
        """Prepare launches; vLLM calls this for what comes from its cache."""
        self._launcher = launcher = Launcher(_name(vllm_config), vllm_config)
        given = self.gm.graph.find_nodes(op="placeholder")
        launcher.attempt(lambda: launcher.take(self.gm, [self.names.get(i) for i in range(len(given))]))
        tensors = (v for n in given if isinstance(v := n.meta.get("example_value"), torch.Tensor))
        if (first := next(tensors, None)) is not None:
            launcher.reserve(first.device)

    @classmethod
    def serialize_compile_artifacts(cls, fn: WholeGraph) -> bytes:
        """For vLLM's cache. Programs are not in it: they have a cache of their own."""
        from vllm.compilation.caching import VllmSerializableFunction

        graph = VllmSerializableFunction.serialize_graph_module(fn.gm)
        kind = next(name for name, kind in stock.KINDS.items() if kind is type(fn.stock))
        return pickle.dumps((onelaunch.__version__, graph, fn.names, kind, fn.stock.save()))

    @classmethod
    def deserialize_compile_artifacts(cls, data: bytes) -> WholeGraph:
        """From vLLM's cache, which calls ``finalize_loading`` next. Raises OnelaunchError (upon which vLLM compiles
        again) for what another version of this package has saved.
        """
        from torch._subclasses import FakeTensorMode
        from torch.fx.experimental.symbolic_shapes import ShapeEnv
        from vllm.compilation.caching import VllmSerializableFunction

        version, graph, names, kind, saved = pickle.loads(data)  # noqa: S301 (vLLM's own cache, pickled itself)
        if version != onelaunch.__version__:
            raise OnelaunchError(f"saved by onelaunch {version}; accepted: {onelaunch.__version__}")
        gm = VllmSerializableFunction.deserialize_graph_module(graph, FakeTensorMode(shape_env=ShapeEnv()))
        gm.recompile()
        return cls(gm, names, stock.KINDS[kind].load(gm, saved))


def _name(config: Any) -> str:
    return ", ".join(config.model_config.architectures)
