"""What runs the calls of a whole graph that are none for a launch: prefill, mixed batches, models that we refuse."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from torch._dynamo.aot_compile_types import BundledAOTAutogradSerializableCallable
from torch.fx import GraphModule

from onelaunch.integrations.vllm import native
from onelaunch.integrations.vllm import settings


class Stock(abc.ABC):
    """A graph, ready to be called with what Dynamo calls it with."""

    @abc.abstractmethod
    def __call__(self, *args: Any) -> Sequence[Any]:
        """The graph's results."""

    @abc.abstractmethod
    def save(self) -> bytes:
        """What ``load`` takes besides the graph."""

    @classmethod
    @abc.abstractmethod
    def compile(cls, gm: GraphModule, inputs: Sequence[Any], config: Any) -> Stock:
        """Called in the tracing context of the graph, which stays as it is."""

    @classmethod
    @abc.abstractmethod
    def load(cls, gm: GraphModule, saved: bytes) -> Stock:
        """Without compiling."""


class Eager(Stock):
    """Node by node, vLLM's own kernels."""

    def __init__(self, gm: GraphModule) -> None:
        self.gm = gm

    def __call__(self, *args: Any) -> Sequence[Any]:
        """By the graph's own code."""
        results: Sequence[Any] = self.gm.forward(*args)
        return results

    def save(self) -> bytes:
        """The graph says all."""
        return b""

    @classmethod
    def compile(cls, gm: GraphModule, inputs: Sequence[Any], config: Any) -> Stock:
        """Nothing is."""
        return cls(gm)

    @classmethod
    def load(cls, gm: GraphModule, saved: bytes) -> Stock:
        """As ever."""
        return cls(gm)


class Inductor(Stock):
    """As torch compiles it, in one piece."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def __call__(self, *args: Any) -> Sequence[Any]:
        """By Inductor's code."""
        results: Sequence[Any] = self.compiled(*args)
        return results

    def save(self) -> bytes:
        """Code and all."""
        bundled = BundledAOTAutogradSerializableCallable(self.compiled)
        return bytes(BundledAOTAutogradSerializableCallable.serialize_compile_artifacts(bundled))

    @classmethod
    def compile(cls, gm: GraphModule, inputs: Sequence[Any], config: Any) -> Stock:
        """vLLM's IR operators, which Inductor would call one by one, are written out for it to fuse."""
        from torch._inductor.compile_fx import compile_fx

        patches = config.compilation_config.inductor_compile_config
        return cls(compile_fx(native.without_ir(gm), inputs, config_patches=patches))

    @classmethod
    def load(cls, gm: GraphModule, saved: bytes) -> Stock:
        """The code that was saved."""
        return cls(BundledAOTAutogradSerializableCallable.deserialize_compile_artifacts(saved))


KINDS: dict[str, type[Stock]] = {"inductor": Inductor, "eager": Eager}


def kind(config: Any) -> type[Stock]:
    """What ``additional_config["onelaunch"]["stock"]`` asks for."""
    found = settings.given(config).get("stock", "inductor")
    if found not in KINDS:
        raise ValueError(f"additional_config['onelaunch']['stock'] is {found!r}; accepted: {', '.join(KINDS)}")
    return KINDS[found]
