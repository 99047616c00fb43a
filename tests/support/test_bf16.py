"""The promised models in bf16: teacher-forced, the error against fp32 at most 1.5 times that of eager bf16."""

import pytest
import torch

from tests.support import judge
from tests.support import steps
from tests.support.configurations import BY_NAME
from tests.support.configurations import PROMISED

PROMPT = 6


def runs(name, batch, target, count, form, damage=None):
    configuration = BY_NAME[name]
    ids = steps.prompt(configuration, batch, PROMPT)
    model = configuration.model(torch.bfloat16)
    exact = steps.direct(configuration, configuration.model(torch.float32), ids, count)
    forced = torch.cat([steps.prompt(configuration, batch, 1, seed=2), exact.tokens[:, :-1]], 1)
    if form == "generate":
        exact = steps.generate(configuration.model(torch.float32), ids, count, forced=forced)
        eager = steps.generate(model, ids, count, forced=forced)
        with steps.counted() as counts:
            got = steps.generate(model, ids, count, forced=forced, target=target)
    else:
        exact = steps.direct(configuration, configuration.model(torch.float32), ids, count, forced=forced)
        eager = steps.direct(configuration, model, ids, count, forced=forced)
        with steps.counted() as counts:
            compile = steps.compiled(target)
            got = steps.direct(configuration, model, ids, count, forced=forced, compile=compile, damage=damage)
    assert not judge.one_launch_a_step(counts, got)
    return judge.bf16_errors(got, eager, exact)


@pytest.mark.parametrize(("number", "name"), list(enumerate(c.name for c in PROMISED)))
def test_reference(number, name):
    ours, eagers = runs(name, (1, 4)[number % 2], "reference", 14, ("generate", "direct")[number // 2 % 2])
    assert 0 < ours <= judge.BF16_RATIO * eagers


@pytest.mark.parametrize(("name", "form"), [("Llama", "direct"), ("GPT-2", "generate")])
def test_cpu(name, form):
    ours, eagers = runs(name, 4, "cpu", 24, form)
    assert 0 < ours <= judge.BF16_RATIO * eagers


@pytest.mark.slow
@pytest.mark.parametrize("form", ["direct", "generate"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", [c.name for c in PROMISED])
def test_cpu_all(name, batch, form):
    ours, eagers = runs(name, batch, "cpu", 24, form)
    assert 0 < ours <= judge.BF16_RATIO * eagers


def test_control():
    """One damaged KV slot of many is more than the contract allows."""

    def damage(cache):
        cache.layers[0].values[:, :, 2] *= -1

    ours, eagers = runs("Llama", 1, "reference", 14, "direct", damage)
    assert ours > judge.BF16_RATIO * eagers
