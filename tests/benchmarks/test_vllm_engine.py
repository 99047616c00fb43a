"""The verdict on tokens of two engines: equal, undecided, or wrong."""

from __future__ import annotations

import pytest

from benchmarks import tables
from benchmarks import vllm_engine


def row(tokens, likely):
    """``likely``: the log-probability of the token, and those of the runner-up, by step."""
    return {"tokens": tokens, "logprobs": [[[t, p], [u, q]] for t, (p, u, q) in zip(tokens, likely, strict=True)]}


STOCK = row([5, 6, 7], [(-0.1, 9, -3.0), (-0.7, 8, -0.705), (-0.2, 9, -4.0)])


def test_equal_tokens():
    assert vllm_engine.compare({"rows": [STOCK]}, {"rows": [STOCK]}, 0.0) == {
        "equal": 1, "of": 1, "gap": None, "right": True,
    }  # fmt: skip


@pytest.mark.parametrize(("token", "noise", "right"), [(8, 0.003, True), (8, 0.001, False), (4, 0.5, False)])
def test_the_first_difference(token, noise, right):
    """Where stock's two tokens are close; a token that stock does not even consider is wrong at any noise."""
    ours = row([5, token, 1], [(-0.1, 9, -3.0), (-0.7, 6, -0.71), (-0.2, 9, -4.0)])
    found = vllm_engine.compare({"rows": [ours]}, {"rows": [STOCK]}, noise)
    assert (found["equal"], found["right"]) == (0, right)


def test_noise_ends_where_tokens_part():
    other = row([5, 8, 7], [(-0.15, 9, -3.2), (-0.6, 6, -9.0), (-0.2, 9, -9.0)])
    found = vllm_engine.noise_of({"points": {"1x178": {"rows": [STOCK], "again": [other]}}})
    assert found == pytest.approx(0.2)


def test_the_table():
    found = vllm_engine.table([{
        "shape": "1b", "batch": 1, "context": 178, "gpu_us": [800.0, 1000.0], "wall_us": None, "gap": None, "equal": 1,
        "of": 1, "right": True,
    }])  # fmt: skip
    assert "1.25x" in found
    assert "yes" in found


def test_the_table_of_the_stored_result():
    """A line for each row, ratios of what the file says, NO where a verdict is bad."""
    result = tables.load("vllm-h200")
    text = tables.markdown(result)
    ours, stock = result["rows"][0]["gpu_us"]
    assert text.count("| Llama-3.2-1B |") == len(result["rows"])
    assert f"| {stock / ours:.2f} |" in text
    assert result["run"]["commit"] in text
    assert "| NO |" not in text
    result["rows"][1]["right"], result["rows"][1]["wall_us"] = False, None
    assert "| NO |" in tables.markdown(result)
    assert "| – | – | – |" in tables.markdown(result)
