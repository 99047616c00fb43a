"""A decoder stack's calls, of which those for a launch are found: what both seams have in common."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from onelaunch.errors import OnelaunchError
from onelaunch.integrations.vllm import batch as batches
from onelaunch.integrations.vllm import rewrite
from onelaunch.integrations.vllm import settings
from onelaunch.integrations.vllm.batch import NotDecodeError
from onelaunch.integrations.vllm.report import report
from onelaunch.integrations.vllm.step import DecodeStep


class Launcher:
    """``name``: of the stack, in the log. ``reason``: why nothing is launched any more; None: nothing speaks against
    it. ``step``: None until a graph has been taken.
    """

    def __init__(self, name: str, config: Any) -> None:
        self.config = config
        self.report = report(name)
        self.step: DecodeStep | None = None
        self.reason = settings.reason_for_stock(config)
        self._size = (0, 0)
        if self.reason is None:
            self.report.intended()
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
        except OnelaunchError as error:
            self.reason = " ".join(str(error).split())
            self.report.refused(self.reason)
        return None

    def take(self, gm: GraphModule, inputs: Sequence[Any]) -> DecodeStep:
        """The step of Dynamo's graph of the stack. Raises UnsupportedError."""
        modules = self.config.compilation_config.static_forward_context
        step = DecodeStep(gm, inputs, modules, settings.options(self.config), self.report)
        self._size = rewrite.size_of_tokens(gm, step.found)
        self.step = step
        return step

    def launch(self, args: Sequence[Any]) -> Sequence[Any]:
        """The graph's results by one launch. ``args``: those of Dynamo's graph. Raises NotDecodeError."""
        assert self.step is not None, "no graph has been taken"
        at, dim = self._size
        return self.step(args, batches.read(self.step.names, args[at].shape[dim]))

    def reserve(self, device: torch.device) -> None:
        """vLLM sizes its cache by the most memory that its first run takes, in which graphs are made: a launch's
        workspace has to be part of it.
        """
        if self.step is not None and device.type == "cuda":
            torch.empty(self.step.bytes_at_most(), dtype=torch.uint8, device=device)
