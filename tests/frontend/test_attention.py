"""Attention reaches the lowering as one node, with its mask, scale and grouping, and means what torch's means."""

import pytest
import torch
import torch.nn.functional as F

from onelaunch.frontend.attend_op import attend


def attends(harness):
    return [n for s in harness.segments for n in s.module.graph.nodes if n.target is attend]


def heads(batch=2, q=4, kv=2, queries=1, keys=7, size=8, value_size=8):
    return (
        torch.randn(batch, q, queries, size),
        torch.randn(batch, kv, keys, size),
        torch.randn(batch, kv, keys, value_size),
    )


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"attn_mask": torch.rand(2, 1, 1, 7) > 0.3},
        {"attn_mask": torch.randn(1, 7), "scale": 0.5},
    ],
)
def test_grouped(harness, kwargs, dynamic):
    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **kwargs) + 1

    args = heads()
    torch.testing.assert_close(harness.compile(f, dynamic=dynamic)(*args), f(*args))
    assert len(attends(harness)) == 1 and not harness.fallbacks


def test_integer_scale(harness):
    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=1, enable_gqa=True)

    args = heads()
    torch.testing.assert_close(harness.compile(f)(*args), f(*args))
    (node,) = attends(harness)
    assert isinstance(node.args[5], float)


def test_positional_and_causal(harness):
    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, None, 0.0, True)

    args = heads(kv=4, queries=7)
    torch.testing.assert_close(harness.compile(f)(*args), f(*args))
    (node,) = attends(harness)
    assert node.args[4] is True


def test_one_shared_head_and_another_value_size(harness):
    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v)

    args = heads(kv=1, value_size=5)
    torch.testing.assert_close(harness.compile(f)(*args), f(*args))
    assert len(attends(harness)) == 1


def test_without_heads(harness):
    def f(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    q, k, v = (t[:, 0] for t in heads())
    for mask in (torch.rand(2, 1, 7) > 0.3, torch.randn(1, 7)):
        torch.testing.assert_close(harness.compile(f)(q, k, v, mask), f(q, k, v, mask))
    assert len(attends(harness)) == 2


def test_repeated_heads_stay_views(harness):
    def f(q, k, v):
        k, v = (t[:, :, None].expand(2, 2, 2, 7, 8).reshape(2, 4, 7, 8) for t in (k, v))
        return F.scaled_dot_product_attention(q, k, v)

    args = heads()
    torch.testing.assert_close(harness.compile(f)(*args), f(*args))
    assert len(attends(harness)) == 1


def test_dropout_has_a_reason(harness):
    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.5)

    harness.compile(f)(*heads(kv=4))
    assert not attends(harness) and "model.eval()" in harness.fallbacks[0].reason
    assert harness.fallbacks[0].op == "torch.nn.functional.scaled_dot_product_attention"


def test_broadcast_batches_are_left(harness):
    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v)

    q, k, v = heads(kv=4)
    torch.testing.assert_close(harness.compile(f)(q, k[:1], v[:1]), f(q, k[:1], v[:1]))
    assert not attends(harness)


def test_attention_that_stays_in_torch(harness):
    harness.refused = ()

    def f(q, k, v, mask):
        return F.scaled_dot_product_attention(q * 2, k, v, attn_mask=mask, enable_gqa=True).cos()

    harness.refuse = lambda node: "refused" if node.target is attend else None
    args = (*heads(), torch.rand(2, 1, 1, 7) > 0.5)
    torch.testing.assert_close(harness.compile(f)(*args), f(*args))
    assert harness.torch_parts == 1 and harness.launches == 2


def test_a_row_without_keys_is_zero():
    q, k, v = heads()
    mask = torch.zeros(2, 1, 1, 7, dtype=torch.bool)
    assert not attend(q, k, v, mask, False, None).any()
