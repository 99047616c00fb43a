"""The promised models through ``model.generate``, fp32, the last row padded on its left."""

import pytest
import torch

from tests.support import judge
from tests.support import steps
from tests.support.configurations import BY_NAME
from tests.support.configurations import PROMISED

PROMPT = 6


def agree(name, batch, target, count, padding):
    configuration = BY_NAME[name]
    model = configuration.model()
    ids = steps.prompt(configuration, batch, PROMPT)
    eager = steps.generate(model, ids, count, padding=padding)
    with steps.counted() as counts:
        got = steps.generate(model, ids, count, padding=padding, target=target)
    assert eager.steps == got.steps == count
    assert not judge.differences(got, eager)
    assert not judge.one_launch_a_step(counts, got)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", [c.name for c in PROMISED])
def test_reference(name, batch):
    """Long enough for windows (16) to fill and roll."""
    agree(name, batch, target="reference", count=13, padding=2)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", [c.name for c in PROMISED])
def test_cpu_all(name, batch):
    agree(name, batch, target="cpu", count=32, padding=2)


@pytest.mark.parametrize(("name", "batch"), [("Qwen3", 4), ("Mistral", 1)])
def test_cpu(name, batch):
    agree(name, batch, target="cpu", count=32, padding=3)


def test_padding_matters():
    """The control: the padded row's logits are others without its padding."""
    configuration = BY_NAME["Llama"]
    model = configuration.model()
    ids = steps.prompt(configuration, 2, PROMPT)
    padded = steps.generate(model, ids, 3, padding=2, target="reference")
    plain = steps.generate(model, ids, 3)
    assert not torch.allclose(padded.logits[1], plain.logits[1], rtol=1e-2)
    torch.testing.assert_close(padded.logits[0, 0], plain.logits[0, 0], rtol=1e-3, atol=1e-4)


def test_growing_lengths():
    """A longer generation with the same model: torch may compile again, and the result is right."""
    configuration = BY_NAME["Llama"]
    model = configuration.model()
    for length, count in ((4, 3), (7, 6), (5, 9)):
        ids = steps.prompt(configuration, 2, length)
        eager = steps.generate(model, ids, count)
        with steps.counted() as counts:
            got = steps.generate(model, ids, count, target="reference")
        assert not judge.differences(got, eager)
        assert not counts.fallbacks and not counts.torch_parts
