"""Hand-written programs on the reference target, against eager torch and in every kind of order."""

import math

import pytest
import torch
from torch.nn import functional as F

from onelaunch.targets.reference import order
from onelaunch.targets.reference.executable import ReferenceExecutable
from tests import programs


def memory(program, given=None):
    return dict(zip((b.name for b in program.buffers), programs.tensors(program, given), strict=True))


def norm(x, w):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * w


@pytest.mark.parametrize("name", programs.SMALL)
def test_every_order_gives_the_same_bits(name):
    make, given = programs.SMALL[name]
    program = make()
    expected = programs.run(program, given(), mode="first")
    for mode in order.MODES:
        for seed in range(3):
            found = programs.run(program, given(), mode=mode, seed=seed, debug=True)
            for key, value in expected.items():
                assert torch.equal(found[key], value), (mode, seed, key)


def test_mlp_is_eager():
    program = programs.mlp()
    m = memory(program)
    x = norm(m["x"], m["w"])
    expected = m["x"] + (F.silu(x @ m["gate"].T) * (x @ m["up"].T)) @ m["down"].T
    torch.testing.assert_close(programs.run(program)["out"], expected)


def test_attention_is_sdpa():
    program, given = programs.attention(), programs.attention_inputs()
    m = memory(program, given)
    k, v = m["cache_k"].clone(), m["cache_v"].clone()
    k[given["slots"]], v[given["slots"]] = m["new_k"], m["new_v"]
    positions = torch.arange(8)
    mask = positions[None, :] < given["length"] + 1 + torch.arange(2)[:, None]
    expected = F.scaled_dot_product_attention(
        m["q"].transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), attn_mask=mask, scale=0.5, enable_gqa=True
    )
    expected = F.silu(expected.transpose(0, 1).reshape(2, -1))
    found = programs.run(program, given, debug=True)
    torch.testing.assert_close(found["out"], expected)
    assert torch.equal(found["cache_k"], k)
    assert torch.equal(found["cache_v"], v)


@pytest.mark.parametrize("length", [0, -5])
def test_a_query_without_positions_is_nan_as_softmax_of_nothing(length):
    program = programs.attention()
    found = programs.run(program, {"slots": torch.tensor([3, 4]), "length": torch.tensor([length - 1])})
    assert found["out"][0].isnan().all()
    assert found["out"][1].isnan().all() == (length < 0)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_loops_are_cut_to_the_run_time_extents(tokens):
    program = programs.embed()
    given = {"ids": torch.tensor([5, 0, 6])[:tokens]}
    m = memory(program, given)
    expected = norm(m["table"][given["ids"]], m["w"]) @ m["table"].T
    executable = ReferenceExecutable(program)
    out = torch.full((4, 7), math.inf)
    pointers = [m[b.name].data_ptr() if b.name != "out" else out.data_ptr() for b in program.buffers]
    executable.launch(pointers, [tokens])
    torch.testing.assert_close(out[:tokens], expected)
    assert out[tokens:].isinf().all()


def test_split_adds_to_the_state_in_place():
    program = programs.split()
    m = memory(program)
    expected = m["state"] + m["x"] @ m["w"].T
    found = programs.run(program, debug=True)
    torch.testing.assert_close(found["out"], expected)
    assert torch.equal(found["out"], found["state"])


def test_cat_takes_only_the_chosen_side():
    program = programs.cat()
    x = memory(program)["x"]
    found = programs.run(program, debug=True)["out"]
    torch.testing.assert_close(found, torch.cat([F.silu(x), torch.cat([x[1:], torch.zeros(1)])]))
