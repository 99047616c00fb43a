"""The seam through the model registry: a stock model whose decoder stack sends decode batches to a launch.

The stack is what vLLM itself compiles whole (``support_torch_compile``). Everything but decode goes on as without us,
with vLLM's own compilation and CUDA graphs.
"""

from __future__ import annotations

import functools
import inspect
import logging
import types
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from onelaunch.errors import OnelaunchError
from onelaunch.errors import UnsupportedError
from onelaunch.integrations.vllm import batch as batches
from onelaunch.integrations.vllm import settings
from onelaunch.integrations.vllm.batch import NotDecodeError
from onelaunch.integrations.vllm.fakes import HINT
from onelaunch.integrations.vllm.launcher import Launcher
from onelaunch.integrations.vllm.step import capturing

log = logging.getLogger("vllm.onelaunch")
ATTACHED = "_onelaunch_decoding"  # attribute of a model and its stack


@functools.cache
def decoding(stock: Any) -> type:
    """A subclass of a stock model class."""

    @functools.wraps(stock.__init__)  # vLLM reads the signature
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        stock.__init__(self, *args, **kwargs)
        if settings.is_marked(kwargs["vllm_config"]):
            _attach(self, kwargs["vllm_config"])

    def compute_logits(self: Any, *args: Any, **kwargs: Any) -> Any:
        """After each step, replayed or not: the place to tell of a launch that has ended early."""
        if (found := self.__dict__.get(ATTACHED)) is not None:
            found.launcher.check()
        return stock.compute_logits(self, *args, **kwargs)

    return _subclass(stock, __init__=init, **({"compute_logits": compute_logits} if _has_logits(stock) else {}))


def _has_logits(stock: Any) -> bool:
    return callable(getattr(stock, "compute_logits", None))


def _attach(model: torch.nn.Module, config: Any) -> None:
    stack = find_stack(model)
    if stack is None:
        log.warning("onelaunch: %s has no decoder stack that vLLM compiles whole: stock", type(model).__name__)
        return
    found = Decoding(stack, config)
    setattr(stack, ATTACHED, found)
    setattr(model, ATTACHED, found)
    kind: Any = type(stack)
    stack.__class__ = _sending(kind)


def find_stack(model: torch.nn.Module) -> Any:
    """The first module that takes tokens and positions and that vLLM would compile as a whole (encoders of images are
    compiled as well); None: there is none.
    """
    from vllm.compilation.wrapper import TorchCompileWithNoGuardsWrapper

    whole = (m for m in model.modules() if isinstance(m, TorchCompileWithNoGuardsWrapper))
    return next(
        (m for m in whole if {"input_ids", "positions"} <= inspect.signature(m.forward).parameters.keys()), None
    )


@functools.cache
def _sending(stock: Any) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = getattr(self, ATTACHED).attempt(*args, **kwargs)
        return stock.__call__(self, *args, **kwargs) if found is None else found

    return _subclass(stock, __call__=call)


def _subclass(stock: Any, **methods: Any) -> type:
    """Under the stock class's name: vLLM looks some things up by it."""
    return type(stock.__name__, (stock,), {"__module__": stock.__module__, "__doc__": stock.__doc__, **methods})


class Decoding:
    """What a stack's calls go through. It is no module: the stack's parameters stay as they are."""

    def __init__(self, stack: torch.nn.Module, config: Any) -> None:
        self.stack = stack
        self.launcher = Launcher(type(stack).__name__, config)
        self._compiled: Any = None
        self._tracing = False

    def attempt(self, input_ids: Any = None, positions: Any = None, *rest: Any, **kwargs: Any) -> Any:
        """The stack's result by one launch; None: vLLM has to compute it."""
        if torch.compiler.is_compiling():
            return None

        def call() -> Any:
            tensors = isinstance(input_ids, torch.Tensor) and isinstance(positions, torch.Tensor)
            if not tensors or any(r is not None for r in (*rest, *kwargs.values())):
                raise NotDecodeError("other arguments than tokens and positions")
            if self.launcher.step is None:
                if capturing(input_ids):
                    raise NotDecodeError("nothing is compiled while a graph is captured")
                self._trace(input_ids, positions, *rest, **kwargs)
            batches.check_decode(input_ids.shape[0], self.launcher.rows)
            return self._compiled(input_ids, positions, *rest, **kwargs)

        return self.launcher.attempt(call)

    def _trace(self, input_ids: torch.Tensor, positions: torch.Tensor, *rest: None, **kwargs: None) -> None:
        """Dynamo's graph of the stack, from arguments of which only shapes matter."""
        ids = input_ids.new_zeros(HINT)
        places = positions.new_zeros((*positions.shape[:-1], HINT))
        for t in (ids, places):
            torch._dynamo.mark_dynamic(t, t.dim() - 1)
        forward = types.MethodType(_copy(type(self.stack).forward), self.stack)
        options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
        self._compiled = torch.compile(forward, fullgraph=True, dynamic=False, backend=self._backend, options=options)
        self._tracing = True
        try:
            with settings.clean_graph():
                self._compiled(ids, places, *rest, **kwargs)
        except OnelaunchError:
            raise
        except Exception as error:
            inner = error.__cause__ if isinstance(error.__cause__, OnelaunchError) else error
            raise UnsupportedError(f"the model could not be traced: {' '.join(str(inner).split())[:300]}") from error
        finally:
            self._tracing = False
        self.launcher.reserve(ids.device)

    def _backend(self, gm: GraphModule, inputs: Sequence[Any], **_: Any) -> Any:
        self.launcher.take(gm, inputs)
        outputs: Any = gm.graph.output_node().args[0]
        shapes = [n.meta["example_value"] for n in outputs]

        def run(*args: Any) -> Sequence[Any]:
            if self._tracing:
                return [torch.empty([int(s) for s in o.shape], dtype=o.dtype, device=o.device) for o in shapes]
            return self.launcher.launch(args)

        return run


def _copy(function: Any) -> types.FunctionType:
    """A function with a code object of its own: Dynamo keeps what it compiled with the code, and vLLM compiles the same
    function, without guards that would tell the two apart.
    """
    code = function.__code__.replace(co_name=f"{function.__name__}_of_decode")
    made = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made
