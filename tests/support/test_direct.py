"""The promised models in the direct form, fp32: 32 greedy tokens up to a full cache, one launch each."""

import pytest
import torch

from tests.support import judge
from tests.support import steps
from tests.support.configurations import BY_NAME
from tests.support.configurations import PROMISED

TOKENS = 32
PROMPT = 6


def agree(configuration, batch, target):
    model = configuration.model()
    ids = steps.prompt(configuration, batch, PROMPT)
    eager = steps.direct(configuration, model, ids, TOKENS)
    assert len(eager.tokens.unique()) >= 4, "a model that repeats itself would make equal tokens mean nothing"
    with steps.counted() as counts:
        got = steps.direct(configuration, model, ids, TOKENS, compile=steps.compiled(target))
    assert not judge.differences(got, eager)
    assert not judge.one_launch_a_step(counts, got)
    return counts


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", [c.name for c in PROMISED])
def test_reference(name, batch):
    counts = agree(BY_NAME[name], batch, target="reference")
    slides = getattr(BY_NAME[name].config(), "sliding_window", None)
    assert slides or counts.graphs == 1


@pytest.mark.parametrize(("number", "name"), list(enumerate(c.name for c in PROMISED)))
def test_cpu(number, name):
    agree(BY_NAME[name], batch=(4, 1)[number % 2], target="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name"), list(enumerate(c.name for c in PROMISED)))
def test_cpu_other_batch(number, name):
    agree(BY_NAME[name], batch=(1, 4)[number % 2], target="cpu")


def test_length_is_not_capacity():
    """A cache longer than what is used, and one program for all lengths in it."""
    configuration = BY_NAME["Llama"]
    model = configuration.model()
    ids = steps.prompt(configuration, 1, PROMPT)
    eager = steps.direct(configuration, model, ids, 8, length=64)
    with steps.counted() as counts:
        got = steps.direct(configuration, model, ids, 8, length=64, compile=steps.compiled("reference"))
    assert not judge.differences(got, eager)
    assert counts.graphs == 1 and not judge.one_launch_a_step(counts, got)


class TestControls:
    """Small damage must be seen, by every comparison the tests above rely on."""

    def run(self, damage=None, spoil=None):
        configuration = BY_NAME["Llama"]
        model = configuration.model()
        ids = steps.prompt(configuration, 1, PROMPT)
        eager = steps.direct(configuration, model, ids, TOKENS)
        if spoil is not None:
            model.load_state_dict(configuration.model().state_dict())
            with torch.no_grad():
                spoil(model)
        compile = steps.compiled("reference")
        return steps.direct(configuration, model, ids, TOKENS, compile=compile, damage=damage), eager

    def test_kv_slot(self):
        def damage(cache):
            cache.layers[0].values[:, :, 2] *= -1

        got, eager = self.run(damage)
        assert judge.differences(got, eager) == {"logits", "tokens", "cache"}

    def test_kv_element(self):
        def damage(cache):
            cache.layers[1].keys[0, 1, 3, 5] += 1

        got, eager = self.run(damage)
        assert {"logits", "cache"} <= judge.differences(got, eager)

    def test_one_weight(self):
        def spoil(model):
            next(p for n, p in model.named_parameters() if n.endswith("q_proj.weight"))[3, 7] += 1

        got, eager = self.run(spoil=spoil)
        assert "logits" in judge.differences(got, eager)

    def test_unwritten_cache(self):
        got, eager = self.run()
        assert not judge.differences(got, eager)
        got.cache[2][0, 0, PROMPT + 4] = 0  # as if one step had not stored its key
        assert judge.differences(got, eager) == {"cache"}

    def test_not_a_number(self):
        got, eager = self.run()
        got.logits[0, 5, 3] = float("nan")
        assert "logits" in judge.differences(got, eager)
