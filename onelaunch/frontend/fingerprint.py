"""A content hash of a Dynamo graph and all else that decides what it compiles to.

A value that cannot be fingerprinted raises: a key that is too coarse would silently run the wrong program.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx import Node

import onelaunch
from onelaunch.frontend.capture import is_parameter
from onelaunch.frontend.symbols import hint

_ROOTS = frozenset({"torch", "_operator", "operator", "math", "builtins", "onelaunch"})
_NAMESPACES = frozenset({"aten", "prims", "onelaunch", "higher_order"})
_TENSOR_LIMIT = 1 << 24  # bytes of a constant that are worth hashing
_SOURCES = ("*.py", "*.h", "*.cuh", "*.cpp", "*.cu")


class FingerprintError(Exception):
    """A graph holds something whose content cannot be told; it is compiled without the cache."""


def fingerprint(gm: GraphModule, inputs: Sequence[Any], settings: Sequence[str]) -> str:
    """A hex digest; equal digests mean: compiled the same way, by the same code, to the same program.

    ``settings``: whatever else decides it (options, target). Raises FingerprintError.
    """
    sink = hashlib.sha256()

    def put(*words: object) -> None:
        for word in words:
            data = str(word).encode()
            sink.update(f"{len(data)}:".encode() + data)

    put(torch.__version__, source_hash(), *settings)
    put(torch.is_grad_enabled(), torch.get_default_dtype())
    put(torch.are_deterministic_algorithms_enabled(), torch.is_autocast_enabled("cpu"))
    put(*_inputs(gm, inputs))
    put(*_graph(gm))
    return sink.hexdigest()


@functools.cache
def source_hash() -> str:
    """A digest of onelaunch's own code: any change of it makes all fingerprints new."""
    folder = Path(onelaunch.__file__).parent
    sink = hashlib.sha256()
    for file in sorted(f for pattern in _SOURCES for f in folder.rglob(pattern)):
        sink.update(file.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return sink.hexdigest()


def _inputs(gm: GraphModule, inputs: Sequence[Any]) -> list[str]:
    """Kind and layout of every input; sizes that vary by their symbols, not by what they happen to be.

    Inputs that share memory raise: torch adds guards on their overlap while tracing, which a hit would skip.
    """
    words: list[str] = []
    nodes = [n for n in gm.graph.nodes if n.op == "placeholder"]
    if len(nodes) != len(inputs):
        raise FingerprintError(f"{len(inputs)} inputs for {len(nodes)} placeholders")
    storages: set[int] = set()
    for node, real in zip(nodes, inputs, strict=True):
        value = node.meta.get("example_value", real)
        if isinstance(value, torch.Tensor):
            if type(real) not in (torch.Tensor, torch.nn.Parameter) and not torch._subclasses.fake_tensor.is_fake(real):
                raise FingerprintError(f"input {node.name} is a {type(real).__name__}")
            if real.untyped_storage()._cdata in storages:
                raise FingerprintError(f"input {node.name} shares memory with another")
            storages.add(real.untyped_storage()._cdata)
            words += ["tensor", *_layout(value), str(is_parameter(node)), str(real.requires_grad)]
            words += [str(real.is_conj()), str(real.is_neg())]
        else:
            words += [type(value).__name__, _size(value)]
    return words


def _layout(tensor: torch.Tensor) -> list[str]:
    if tensor.layout is not torch.strided:
        raise FingerprintError(f"a tensor of layout {tensor.layout}")
    numbers = (*tensor.shape, "by", *tensor.stride(), "from", tensor.storage_offset())
    return [str(tensor.dtype), str(tensor.device), *(_size(n) for n in numbers)]


def _size(size: Any) -> str:
    """A number, or a symbolic size with all that decides about it: structure, range, and whether it was small."""
    if not isinstance(size, torch.SymInt):
        return _argument(size)
    expression = size.node.expr
    known = size.node.shape_env.var_to_range
    limits = [f"{s}:{known[s]}" for s in sorted(expression.free_symbols, key=str)]
    return f"{expression} {limits} {hint(size) <= 32}"


def _graph(gm: GraphModule) -> list[str]:
    words: list[str] = []
    for node in gm.graph.nodes:
        words += [node.op, node.name, _target(gm, node)]
        words += [_argument(node.args), _argument(node.kwargs)]
    return words


def _target(gm: GraphModule, node: Node) -> str:
    if node.op in ("placeholder", "output", "call_method"):
        return str(node.target) if node.op == "call_method" else ""
    if node.op == "get_attr":
        return _attribute(gm, str(node.target))
    if node.op != "call_function":
        raise FingerprintError(f"a node of kind {node.op}")
    return _function(node.target)


def _attribute(gm: GraphModule, path: str) -> str:
    value: Any = gm
    for part in path.split("."):
        value = getattr(value, part)
    if isinstance(value, GraphModule):
        return " ".join(_graph(value))
    if isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.nbytes <= _TENSOR_LIMIT:
        raw = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        return " ".join((*_layout(value), hashlib.sha256(raw).hexdigest()))
    raise FingerprintError(f"attribute {path} is a {type(value).__name__}")


def _function(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        if target.namespace not in _NAMESPACES:
            raise FingerprintError(f"operator {target} of another library")
        return f"{target} {target._schema}"
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher order {target.name()}"
    module = inspect.getmodule(target)
    name = getattr(target, "__module__", None) or (module.__name__ if module else None) or _owner(target)
    qualified = getattr(target, "__qualname__", "")
    if not name or name.partition(".")[0] not in _ROOTS or not qualified or "<" in qualified:
        raise FingerprintError(f"function {target!r} of another library")
    return f"{name}.{qualified}"


def _owner(target: Any) -> str | None:
    """The module of a method of a C type, e.g. ``torch._C`` for ``Tensor.add``."""
    owner = getattr(target, "__objclass__", None) or type(getattr(target, "__self__", None))
    return getattr(owner, "__module__", None)


def _argument(value: Any) -> str:
    """The text of an argument; every accepted type prints differently for different values."""
    match value:
        case Node():
            return f"%{value.name}"
        case None | bool() | int() | float() | complex() | str():
            return f"{type(value).__name__} {value!r}"
        case torch.SymInt():
            return _size(value)
        case enum.Enum():
            return f"{type(value).__qualname__}.{value.name}"
        case torch.dtype() | torch.device() | torch.layout() | torch.memory_format():
            return f"{type(value).__name__} {value}"
        case slice():
            return f"slice({_argument(value.start)}, {_argument(value.stop)}, {_argument(value.step)})"
        case range():
            return repr(value)
        case tuple() | list():
            return f"{type(value).__name__}({', '.join(_argument(v) for v in value)})"
        case dict():
            return f"{{{', '.join(f'{_argument(k)}: {_argument(v)}' for k, v in value.items())}}}"
    if value is Ellipsis:
        return "..."
    raise FingerprintError(f"an argument of type {type(value).__name__}")
