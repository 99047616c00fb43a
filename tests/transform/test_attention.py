"""Written-out attention is recognised by its form; spans are read off masks."""

from __future__ import annotations

import math

import pytest
import torch

from onelaunch.graph.nest import Kind
from onelaunch.program import machine as machines
from onelaunch.transform import optimise
from tests.lowering.test_pointwise import real
from tests.lowering.test_pointwise import truth
from tests.transform.graphs import MACHINE
from tests.transform.graphs import assert_runs
from tests.transform.graphs import compiled
from tests.transform.graphs import graph_of
from tests.transform.graphs import machine

Q, K, V = real(2, 4, 1, 16), real(2, 4, 13, 16), real(2, 4, 13, 16) * 0.5
POSITION = torch.tensor([8])
FAR = torch.finfo(torch.float32).min


def attend(function, *args, on=MACHINE):
    """The attention of the one Attend nest, or None."""
    graph = graph_of(function, *args)
    optimise(graph, on, verified=True)
    found = [n.nest.attention for n in graph.nodes if n.nest.kind is Kind.ATTEND]
    assert len(found) <= 1
    return found[0] if found else None


def written(q, k, v, score=lambda s: s):
    return torch.softmax(score(q @ k.mT), -1) @ v


def repeated(x, times):
    b, h, n, d = x.shape
    return x[:, :, None].expand(b, h, times, n, d).reshape(b, h * times, n, d)


FORMS = {
    "plain": (lambda q, k, v: written(q, k, v), (Q, K, V)),
    "scale": (lambda q, k, v: written(q, k, v, lambda s: s * 0.25), (Q, K, V)),
    "scaled query": (lambda q, k, v: written(q * 0.25, k, v), (Q, K, V)),
    "soft cap": (lambda q, k, v: written(q, k, v, lambda s: torch.tanh(s / 5) * 5), (Q, K, V)),
    "bias": (lambda q, k, v, b: written(q, k, v, lambda s: s + b), (Q, K, V, real(1, 4, 1, 13))),
    "repeated heads": (lambda q, k, v: written(q, repeated(k, 2), repeated(v, 2)), (Q, K[:, :2], V[:, :2])),
    "several queries": (lambda q, k, v: written(q, k, v), (real(2, 4, 5, 16), K, V)),
    "other value heads": (lambda q, k, v: written(q, k, v), (Q, K, real(2, 4, 13, 7))),
    "cast to the type of the values": (
        lambda q, k, v: torch.softmax(q @ k.mT, -1, dtype=torch.float32).to(q.dtype) @ v, (Q, K, V)),
    "keys as rows of a cache": (lambda q, k, v: written(q, k.transpose(1, 2), v.transpose(1, 2)),
                                (Q, real(2, 13, 4, 16), real(2, 13, 4, 16))),
    "mask": (lambda q, k, v, m: written(q, k, v, lambda s: torch.where(m, s, -math.inf)),
             (Q, K, V, truth(2, 1, 1, 13))),
}  # fmt: skip


# Where dependencies are dear, its softmax is computed with its last product, or all of it.
MACHINES = {"synthetic": MACHINE, "dear dependencies": machine(dependency=1e7), "gpu": machines.cuda()}


@pytest.mark.parametrize("on", MACHINES)
@pytest.mark.parametrize("form", FORMS)
def test_written_out_attention_is_one_nest(form: str, on: str) -> None:
    function, args = FORMS[form]
    assert attend(function, *args, on=MACHINES[on]) is not None
    assert_runs(compiled(function, *args, on=MACHINES[on]), function, *args)


def test_the_query_in_front_of_its_own_value() -> None:
    """Column e of the result is of query e: no attention, whose query is the same for all elements of its head."""

    def f(q, k, v):
        return (torch.softmax(q @ k.T, -1) * v.T).sum(-1)

    args = real(7, 16), real(13, 16), real(13, 7)
    assert attend(f, *args) is None
    assert_runs(compiled(f, *args), f, *args)


def twice(p, v):
    return p @ v + p.sum(-1, keepdim=True)


OTHERS = {
    "probabilities are an output": lambda q, k, v: (torch.softmax(q @ k.mT, -1), torch.softmax(q @ k.mT, -1) @ v),
    "softmax over queries": lambda q, k, v: torch.softmax(q @ k.mT, -2) @ v,
    "log softmax": lambda q, k, v: torch.log_softmax(q @ k.mT, -1) @ v,
    "scores of no product": lambda q, k, v: torch.softmax(k[..., 0][:, :, None] + q[..., :1], -1) @ v,
    "probabilities used twice": lambda q, k, v: twice(torch.softmax(q @ k.mT, -1), v),
    "f64": lambda q, k, v: written(q.double(), k.double(), v.double()),
}


@pytest.mark.parametrize("form", OTHERS)
def test_what_is_no_attention(form: str) -> None:
    function, args = OTHERS[form], (real(2, 4, 3, 16), K, V)
    wanted = form == "probabilities are an output"
    assert (attend(function, *args) is not None) <= wanted
    assert_runs(compiled(function, *args), function, *args)


# spans


def masked(condition, hide=-math.inf):
    """Attention whose score is chosen by ``condition(key, position)``."""

    def f(q, k, v, position):
        key = torch.arange(13)
        return written(q, k, v, lambda s: torch.where(condition(key, position), s, hide))

    return f


def span(condition):
    function = masked(condition)
    found = attend(function, Q, K, V, POSITION)
    assert_runs(compiled(function, Q, K, V, POSITION), function, Q, K, V, POSITION)
    return found


def test_causal_masks_end_the_loop() -> None:
    a = span(lambda key, p: key <= p)
    assert (a.start, a.scan) == (None, None)
    assert str(a.stop) == "%arg3_1[0] + 1"
    assert str(span(lambda key, p: key < p).stop) == "%arg3_1[0]"
    assert str(span(lambda key, p: p + 2 > key).stop) == "%arg3_1[0] + 2"
    assert str(span(lambda key, p: p - key >= 0).stop) == "%arg3_1[0] + 1"


def test_windows_begin_the_loop() -> None:
    a = span(lambda key, p: (key <= p) & (key > p - 4))
    assert str(a.start) == "%arg3_1[0] + (-3)"
    assert str(a.stop) == "%arg3_1[0] + 1"
    assert a.scan is None


def test_several_ends_are_the_nearest() -> None:
    a = span(lambda key, p: (key <= p) & (key < 11))
    assert a.stop is not None
    assert {e.strip() for e in str(a.stop)[4:-1].split(",")} == {"%arg3_1[0] + 1", "11"}


def test_other_conditions_are_scanned() -> None:
    a = span(lambda key, p: (key % 2 == 0) & (key <= p))
    assert a.stop is not None
    assert a.scan is not None
    assert a.key in a.scan.free


def test_masks_that_are_data_are_scanned() -> None:
    function, args = FORMS["mask"]
    a = attend(function, *args)
    assert (a.start, a.stop) == (None, None)
    assert [e.attr for e in a.scan.args or [a.scan]] or a.scan is not None
    assert a.masked == "nan"


def test_a_row_without_positions_is_nan_as_written() -> None:
    function = masked(lambda key, p: key < p - 8)
    assert_runs(compiled(function, Q, K, V, POSITION), function, Q, K, V, POSITION)


@pytest.mark.parametrize("position", [0, 8, -1, 12])
@pytest.mark.parametrize("turned", [False, True])
def test_huge_negative_addends_are_scanned_and_may_hide_everything(position: int, turned: bool) -> None:
    def f(q, k, v, p):
        seen = torch.arange(13) <= p
        bias = torch.where(~seen, FAR, 0.0) if turned else torch.where(seen, 0.0, FAR)
        return written(q, k, v, lambda s: s + bias)

    args = Q, K, V, torch.tensor([position])
    a = attend(f, *args)
    assert (a.start, a.stop, a.masked) == (None, None, "all")
    assert a.scan is not None
    assert_runs(compiled(f, *args), f, *args)


def test_small_addends_are_no_masks() -> None:
    a = attend(lambda q, k, v, p: written(q, k, v, lambda s: s + torch.where(torch.arange(13) <= p, 0.0, -100.0)),
               Q, K, V, POSITION)  # fmt: skip
    assert (a.start, a.stop, a.scan) == (None, None, None)


def test_no_mask_is_no_span() -> None:
    a = attend(FORMS["plain"][0], Q, K, V)
    assert (a.start, a.stop, a.scan) == (None, None, None)
