"""Options are refused by name and value, with what is accepted."""

from pathlib import Path

import pytest

from onelaunch.errors import OptionError
from onelaunch.frontend import options


def test_defaults():
    assert options.parse(None) == options.parse({}) == options.Options()


def test_values():
    parsed = options.parse({"target": "cpu", "workers": 3, "fallback": "error", "cache_dir": "/x", "check": False})
    assert parsed.target == "cpu" and parsed.workers == 3 and parsed.cache_dir == Path("/x") and not parsed.check


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"targets": "cpu"}, "unknown option 'targets'; accepted: target, workers"),
        ({"target": "tpu"}, "'target' is 'tpu'; accepted: auto, cpu, cuda, reference"),
        ({"workers": 0}, "'workers' is 0; accepted: a positive integer"),
        ({"workers": True}, "'workers' is True"),
        ({"launch": "two"}, "'launch' is 'two'; accepted: one, graph"),
        ({"fallback": "eager"}, "accepted: torch, error"),
        ({"cache": "no"}, "accepted: True, False"),
        ({"cache_dir": ""}, "accepted: a path"),
    ],
)
def test_refused(given, says):
    with pytest.raises(OptionError) as caught:
        options.parse(given)
    assert says in str(caught.value) and "\n" not in str(caught.value)
