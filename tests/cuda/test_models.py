"""Decode steps of small random models on the GPU against eager, through torch.compile as users do it."""

from __future__ import annotations

import contextlib

import pytest
import torch

from tests.support import judge
from tests.support import steps
from tests.support.configurations import BY_NAME
from tests.support.configurations import PROMISED

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]
TOKENS, PROMPT = 24, 6


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()


@contextlib.contextmanager
def on_gpu():
    """Whatever is made without naming a device is made on the GPU."""
    before = torch.get_default_device()
    torch.set_default_device("cuda")
    try:
        yield
    finally:
        torch.set_default_device(before)


def direct(configuration, dtype, batch, **options):
    model = configuration.model(dtype).cuda()
    ids = steps.prompt(configuration, batch, PROMPT).cuda()
    with on_gpu():
        return steps.direct(configuration, model, ids, TOKENS, **options)


@pytest.mark.parametrize(("number", "name"), list(enumerate(c.name for c in PROMISED)))
def test_single_precision(number, name):
    configuration, batch = BY_NAME[name], (1, 4)[number % 2]
    eager = direct(configuration, torch.float32, batch)
    with steps.counted() as counts:
        got = direct(configuration, torch.float32, batch, compile=steps.compiled("cuda"))
    assert not judge.differences(got, eager)
    assert not judge.one_launch_a_step(counts, got)


@pytest.mark.parametrize(("number", "name"), list(enumerate(c.name for c in PROMISED)))
def test_half_precision(number, name):
    """Teacher-forced along eager's tokens; the error against fp32 is not much larger than eager's own."""
    configuration, batch = BY_NAME[name], (4, 1)[number % 2]
    exact = direct(configuration, torch.float32, batch)
    forced = exact.tokens
    exact = direct(configuration, torch.float32, batch, forced=forced)
    eager = direct(configuration, torch.bfloat16, batch, forced=forced)
    got = direct(configuration, torch.bfloat16, batch, forced=forced, compile=steps.compiled("cuda"))
    ours, theirs = judge.bf16_errors(got, eager, exact)
    assert ours <= judge.BF16_RATIO * theirs


def test_auto_is_the_gpu_where_the_arguments_are():
    configuration = BY_NAME["Llama"]
    eager = direct(configuration, torch.float32, 1)
    with steps.counted() as counts:
        got = direct(configuration, torch.float32, 1, compile=steps.compiled("auto"))
    assert not judge.differences(got, eager)
    assert not judge.one_launch_a_step(counts, got)


def test_a_corrupted_cache_is_noticed():
    def damage(cache):
        cache.layers[0].keys[:, :, 2] += 1.0

    configuration = BY_NAME["Llama"]
    eager = direct(configuration, torch.float32, 1)
    got = direct(configuration, torch.float32, 1, compile=steps.compiled("cuda"), damage=damage)
    assert judge.differences(got, eager)
