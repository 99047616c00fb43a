"""Functions that make tensors without elements on the way: they are lowered whole, with torch's results."""

import pytest
import torch

from onelaunch.frontend import nodes

pytestmark = pytest.mark.parametrize("harness", ["", "reference"], indirect=True, ids=["torch", "reference"])


def rotated_whole(x):
    """Rotary embeddings over all of a head, written for a part of it."""
    turned, rest = x[..., :8], x[..., 8:]
    return torch.cat([turned * 2, rest], -1)


def rotated_whole_by_split(x):
    turned, rest = torch.split(x, [8, 0], -1)
    return torch.cat([rest, turned.neg()], -1)


def computed_and_stored(x):
    y = torch.zeros_like(x)
    y[..., 8:].copy_(x[..., 8:] * 3)
    return y + x


def stored_into_a_copy(x):
    y = x.clone()
    y[..., 8:] = 1.0
    return y


def stored_in_place(x):
    x[..., 8:] = x[..., :0]
    return x * 2


def deciding_the_type(x):
    return torch.cat([x.bfloat16(), x[..., 8:]], -1)


def values(node):
    return nodes.tensors(node.meta.get("val"))


FUNCTIONS = [rotated_whole, rotated_whole_by_split, computed_and_stored, stored_into_a_copy, stored_in_place]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_stays_in_torch(harness, function):
    x = torch.randn(3, 8)
    with torch.no_grad():
        wanted, got = function(x.clone()), harness.compile(function)(x)
    assert got.dtype == wanted.dtype and got.data_ptr() != x.data_ptr()
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert harness.launches == 1 and not harness.fallbacks
    assert not [v for s in harness.segments for n in s.module.graph.nodes for v in values(n) if v.numel() == 0]


def test_a_piece_that_decides_the_type_stays(harness):
    x = torch.randn(3, 8)
    got, wanted = harness.compile(deciding_the_type)(x), deciding_the_type(x)
    assert got.dtype == wanted.dtype == torch.float32 and torch.equal(got, wanted)


def test_an_empty_result_is_torchs(harness):
    def split(x):
        turned, rest = torch.split(x, [8, 0], -1)
        return turned * 2, rest + 1

    x = torch.randn(3, 8)
    with torch.no_grad():
        got = harness.compile(split)(x)
    assert torch.equal(got[0], x * 2) and got[1].shape == (3, 0)
    assert harness.target == "" or harness.fallbacks


def test_a_size_that_may_be_zero_is_kept(harness):
    """Only sizes that are known to be zero count."""

    def function(x, y):
        return torch.cat([x * 2, y], 0)

    step = harness.compile(function, dynamic=True)
    with torch.no_grad():
        for rows in (3, 2, 5):
            x, y = torch.randn(2, 4), torch.randn(rows, 4)
            torch.testing.assert_close(step(x, y), function(x, y), rtol=0, atol=0)
