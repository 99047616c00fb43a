"""The rest of the census' dense models, odd sizes, and changing batches: reached, and right."""

from importlib import metadata

import pytest

from onelaunch.frontend.policy import MAX_ROWS
from tests.support import judge
from tests.support import steps
from tests.support.configurations import BY_NAME
from tests.support.configurations import ODD
from tests.support.configurations import OTHERS

PROMPT = 6
TOO_OLD = {"BLOOM", "XGLM"}  # need transformers 5.23


@pytest.mark.parametrize("name", [c.name for c in OTHERS])
def test_direct(name):
    if name in TOO_OLD and metadata.version("transformers") < "5.23":
        pytest.skip("this transformers fails in eager or under Dynamo, before a backend is asked")
    agree(BY_NAME[name], 1, 3 if BY_NAME[name].slides else 2)  # the step of a sliding cache compiles twice


@pytest.mark.slow
@pytest.mark.parametrize("name", [c.name for c in OTHERS])
def test_generate(name):
    configuration = BY_NAME[name]
    model = configuration.model()
    ids = steps.prompt(configuration, 2, PROMPT)
    padding = 2 if configuration.pads else 0
    eager = steps.generate(model, ids, 13, padding=padding)
    with steps.counted() as counts:
        got = steps.generate(model, ids, 13, padding=padding, target="reference")
    contract(configuration, counts, got, eager)


@pytest.mark.parametrize("name", [c.name for c in OTHERS if c.compresses])
def test_a_compressed_cache_of_many_rows(name):
    """All of it is multiplied with a weight in each step, in rows that would make a prompt of most products."""
    steps, batch = 12, 2
    assert batch * (PROMPT + steps) > MAX_ROWS
    agree(BY_NAME[name], batch, steps)


@pytest.mark.parametrize("name", [c.name for c in ODD])
def test_odd_sizes(name):
    agree(BY_NAME[name], 2, 4)


@pytest.mark.parametrize("name", [ODD[0].name, ODD[1].name])
def test_odd_sizes_on_cpu(name):
    agree(BY_NAME[name], 2, 8, target="cpu")


def test_batches_of_a_dynamic_graph():
    """One graph with a symbolic batch: 3 and 5 rows share nothing but the graph; each bucket has its program."""
    configuration = BY_NAME["Llama"]
    model = configuration.model()
    step = steps.compiled("reference", dynamic=True)(model)
    with steps.counted() as counts:
        for batch in (3, 5, 4, 3):
            ids = steps.prompt(configuration, batch, PROMPT)
            eager = steps.direct(configuration, model, ids, 3)
            got = steps.direct(configuration, model, ids, 3, compile=lambda _: step)
            assert not judge.differences(got, eager)
    assert counts.launches == 12 and not counts.fallbacks and not counts.torch_parts
    assert counts.graphs == 1 and counts.programs == 2


def test_windows_of_a_dynamic_graph():
    """A window of symbolic length that rolls over."""
    configuration = BY_NAME["Mistral"]
    model = configuration.model()
    ids = steps.prompt(configuration, 1, PROMPT)
    eager = steps.direct(configuration, model, ids, 8)
    with steps.counted() as counts:
        got = steps.direct(configuration, model, ids, 8, compile=steps.compiled("reference", dynamic=True))
    assert not judge.differences(got, eager)
    assert counts.launches == 8 and not counts.fallbacks and not counts.torch_parts


def agree(configuration, batch, count, target="reference"):
    model = configuration.model()
    ids = steps.prompt(configuration, batch, PROMPT)
    eager = steps.direct(configuration, model, ids, count)
    with steps.counted() as counts:
        got = steps.direct(
            configuration, model, ids, count, compile=steps.compiled(target, whole=not configuration.breaks)
        )
    contract(configuration, counts, got, eager)


def contract(configuration, counts, got, eager):
    assert not judge.differences(got, eager)
    assert not counts.fallbacks and not counts.torch_parts
    against = judge.one_launch_a_step(counts, got)
    assert bool(against) == bool(configuration.breaks), against  # one that is reached after all breaks no more
