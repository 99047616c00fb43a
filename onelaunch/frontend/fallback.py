"""Why a part of a graph stays in torch: what ``explain`` shows and ``fallback="error"`` raises."""

from __future__ import annotations

import dataclasses
import re

from torch._ops import OpOverload
from torch._ops import OpOverloadPacket
from torch.fx import Node

from onelaunch.errors import UnsupportedError

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)\n\s*(?P<code>.*)')


@dataclasses.dataclass(frozen=True, slots=True)
class Fallback:
    """One op, or a whole graph (``op == "graph"``), left to torch."""

    op: str
    reason: str
    where: str = ""  # "file:line in function: code", where known
    module: str = ""  # path of the module that ran it, e.g. "model.layers.0.mlp"

    def __str__(self) -> str:
        text = f"{self.op}: {self.reason}"
        if self.module:
            text += f"; in {self.module}"
        return f"{text}; at {self.where}" if self.where else text

    def error(self) -> UnsupportedError:
        """The error to raise where the user allows no fallback."""
        return UnsupportedError(f"cannot be lowered: {self}")


def of_node(node: Node, reason: str) -> Fallback:
    """The fallback of one node, with what torch recorded about its origin."""
    return Fallback(op=op_name(node), reason=reason, where=source(node), module=module_path(node))


def op_name(node: Node) -> str:
    """What a user calls the op of a node: ``aten.sort.default``, ``torch.nn.functional.dropout``."""
    if not callable(node.target) or isinstance(node.target, OpOverload | OpOverloadPacket):
        return str(node.target)
    module = (getattr(node.target, "__module__", None) or "torch").removeprefix("_")
    module = "torch.nn.functional" if module == "torch._C._nn" else module
    return f"{module}.{getattr(node.target, '__name__', node.target)}"


def of_graph(reason: str) -> Fallback:
    """The fallback of a graph that stays in torch whole."""
    return Fallback(op="graph", reason=reason)


def source(node: Node) -> str:
    """The user's line that made the node: the innermost frame of its stack trace, or an empty string."""
    frames = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    if not frames:
        return ""
    last = frames[-1]
    return f"{last['file']}:{last['line']} in {last['function']}: {last['code'].strip()}"


def module_path(node: Node) -> str:
    """The path of the innermost module that was running, without the name of the local it was reached by."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = str(list(stack.values())[-1][0])
    return re.sub(r"^L\['\w+'\]\.?", "", path) or path
