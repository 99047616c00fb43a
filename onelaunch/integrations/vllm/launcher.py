"""A decoder stack's calls, of which those for a launch are found: what both seams have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from onelaunch.errors import AccessError
from onelaunch.errors import LaunchError
from onelaunch.errors import OnelaunchError
from onelaunch.errors import UnsupportedError
from onelaunch.integrations.vllm import batch as batches
from onelaunch.integrations.vllm import rewrite
from onelaunch.integrations.vllm import settings
from onelaunch.integrations.vllm.batch import NotDecodeError
from onelaunch.integrations.vllm.report import report
from onelaunch.integrations.vllm.step import DecodeStep
from onelaunch.integrations.vllm.step import capturing

log = logging.getLogger("vllm.onelaunch")


class Launcher:
    """``name``: of the stack, in the log. ``reason``: why nothing is launched any more; None: nothing speaks against
    it. ``step``: None until a graph has been taken.
    """

    def __init__(self, name: str, config: Any) -> None:
        self.config = config
        self.report = report(name)
        self.step: DecodeStep | None = None
        self.rows = settings.rows(config)
        self.reason = settings.reason_for_stock(config)
        self._size = (0, 0)
        self._reserved: torch.Tensor | None = None
        if self.reason is None:
            self.report.intended(self.rows)
        else:
            self.report.refused(self.reason)

    def attempt(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns; None: vLLM has to compute it, for a reason that is reported."""
        if self.reason is not None:
            return None
        try:
            return call()
        except NotDecodeError as reason:
            self.report.left(str(reason))
            if str(reason) != batches.PROFILING:
                self._reserved = None
        except (LaunchError, AccessError):  # of a launch that has run: nothing may be built upon what it left
            raise
        except (OnelaunchError, torch._dynamo.exc.TorchDynamoException) as error:
            self.reason = " ".join(str(error).split())[:600]
            self.report.refused(self.reason)
            self._reserved = None
        return None

    def check(self) -> None:
        """Raise what a launch in a replayed graph has met: LaunchError, IndexError."""
        if self.step is not None:
            self.step.check()

    def take(self, gm: GraphModule, inputs: Sequence[Any]) -> DecodeStep:
        """The step of Dynamo's graph of the stack. Raises UnsupportedError."""
        modules = self.config.compilation_config.static_forward_context
        try:
            options, sizes = settings.options(self.config), settings.sizes(self.config)
            step = DecodeStep(gm, inputs, modules, options, self.report, sizes)
            self._size = rewrite.size_of_tokens(gm, step.found)
        except OnelaunchError:
            raise
        except Exception as error:
            log.exception("onelaunch: a graph could not be read")
            raise UnsupportedError(f"{type(error).__name__}: {error}") from error
        self.step = step
        return step

    def launch(self, args: Sequence[Any]) -> Sequence[Any]:
        """The graph's results by one launch. ``args``: those of Dynamo's graph. Raises NotDecodeError."""
        assert self.step is not None, "no graph has been taken"
        at, dim = self._size
        if capturing(args[at]) and not self.config.compilation_config.cudagraph_mode.separate_routine():
            raise NotDecodeError("one CUDA graph for all kinds of batches")  # it would be replayed for a prompt as well
        results = self.step(args, batches.read(self.step.names, args[at].shape[dim], self.rows))
        self._reserved = None
        return results

    def reserve(self, device: torch.device) -> None:
        """vLLM sizes its cache by the most memory that its first run takes, in which graphs are made: a launch's
        workspace has to be part of it. Kept until there is one.
        """
        if self.step is not None and device.type == "cuda":
            self._reserved = torch.empty(self.step.bytes_at_most(self.rows), dtype=torch.uint8, device=device)
