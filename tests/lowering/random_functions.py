"""Random functions of tensors, as data: a list of steps, each naming an operation and earlier values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch.nn import functional as F

Value = torch.Tensor
SIDES = (1, 3, 7, 13)
UNARY: dict[str, Callable[[Value], Value]] = {
    "tanh": torch.tanh, "sin": torch.sin, "sigmoid": torch.sigmoid, "relu": torch.relu, "abs": torch.abs,
    "gelu": F.gelu, "silu": F.silu, "square": lambda x: x.tanh().square(),
    "scale": lambda x: x * 0.5 + 0.25, "rsqrt": lambda x: torch.rsqrt(x * x + 1), "clamp": lambda x: x.clamp(-1, 0.5),
    "select positive": lambda x: torch.where(x > 0, x, -0.5 * x), "bf16": lambda x: x.bfloat16().float(),
    # reductions that keep the dimension, so that any value can meet any other
    "sum": lambda x: x.tanh().sum(-1, keepdim=True), "mean": lambda x: x.mean(0, keepdim=True),
    "amax": lambda x: x.amax(-1, keepdim=True), "softmax": lambda x: x.softmax(-1), "softmax 0": lambda x: x.softmax(0),
    "norm": lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-3),
    "cumsum": lambda x: x.tanh().cumsum(-1),
    "layer norm": lambda x: F.layer_norm(x, x.shape[-1:]), "argmax": lambda x: x.argmax(-1, True) * 0.1,
    # views
    "t": lambda x: x.T, "flip": lambda x: x.flip(0), "roll": lambda x: x.roll(1, -1), "tail": lambda x: x[-1:],
    "every other": lambda x: x[:, ::2], "pad": lambda x: F.pad(x, (1, 0, 0, 1)),
    "flat": lambda x: x.reshape(1, -1), "repeat": lambda x: x.repeat(2, 1), "triangle": lambda x: x.tril(),
    "twice": lambda x: torch.cat([x, x * 2], -1), "halves": lambda x: torch.cat([x[1:], x[:1]]),
}  # fmt: skip
BINARY: dict[str, Callable[[Value, Value], Value]] = {
    "add": torch.add, "sub": torch.sub, "mul": lambda x, y: x.tanh() * y, "max": torch.maximum, "min": torch.minimum,
    "where": lambda x, y: torch.where(x < y, x, 1.0), "matmul": lambda x, y: x.tanh() @ y.tanh(),
    "linear": lambda x, y: x.tanh() @ y.tanh().T, "cat": lambda x, y: torch.cat([x, y]),
    "attend": lambda x, y: (x.tanh() @ y.tanh().T).softmax(-1) @ y,
}  # fmt: skip
IN_PLACE: dict[str, Callable[[Value], Value]] = {
    "add_": lambda x: x.add_(0.5), "mul_": lambda x: x.mul_(0.5), "copy_": lambda x: x.copy_(x.flip(-1)),
    "tanh_": lambda x: x.tanh_(), "set row": lambda x: x[-1].fill_(0.25), "set column": lambda x: x[:, :1].mul_(3),
}  # fmt: skip
LARGEST = 4000


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation; ``a`` and ``b`` number values counted from the latest, modulo how many there are."""

    kind: str
    name: str
    a: int
    b: int


steps = st.builds(
    lambda pair, a, b: Step(*pair, a, b),
    st.one_of(
        st.sampled_from([("unary", n) for n in UNARY]),
        st.sampled_from([("binary", n) for n in BINARY]),
        st.sampled_from([("in place", n) for n in IN_PLACE]),
    ),
    st.integers(0, 5),
    st.integers(0, 5),
)
shapes = st.tuples(st.sampled_from(SIDES), st.sampled_from(SIDES))
functions = st.tuples(
    st.lists(steps, min_size=1, max_size=9),
    st.lists(shapes, min_size=1, max_size=3),
    st.sets(st.integers(0, 5), min_size=1, max_size=3),
)  # fmt: skip


def fits(step: Step, x: Value, y: Value) -> bool:
    """Whether shapes meet as the operation needs, and the result stays small."""
    if step.name == "matmul":
        return x.shape[1] == y.shape[0]
    if step.name in ("linear", "cat", "attend"):
        return x.shape[1] == y.shape[1]
    if step.kind == "binary":
        return all(m == n or 1 in (m, n) for m, n in zip(x.shape, y.shape, strict=True))
    return x.numel() < LARGEST


def function_of(program: list[Step], outputs: set[int]) -> Callable[..., list[Value]]:
    """The Python function that runs the steps; a step that does not fit is left out."""

    def function(*args: Value) -> list[Value]:
        values = list(args)
        for step in program:
            x, y = values[-1 - step.a % len(values)], values[-1 - step.b % len(values)]
            if not fits(step, x, y):
                continue
            if step.kind == "in place":
                IN_PLACE[step.name](args[step.a % len(args)])
            else:
                values.append(UNARY[step.name](x) if step.kind == "unary" else BINARY[step.name](x, y))
        return [values[-1 - o % len(values)] for o in sorted(outputs)]

    return function
