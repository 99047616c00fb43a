"""The models of the support tests are what their comparisons take them for."""

import pytest
import torch

from tests.support.configurations import BY_NAME


@pytest.mark.parametrize("name", ["Llama", "DiffLlama"])  # the second one initialises vectors at random
def test_weights_are_the_same_in_every_type(name):
    torch.manual_seed(1)
    exact = BY_NAME[name].model()
    torch.manual_seed(2)
    rounded = BY_NAME[name].model(torch.bfloat16)
    for (path, a), b in zip(exact.named_parameters(), rounded.parameters(), strict=True):
        assert b.dtype == torch.bfloat16 and torch.equal(a, b.float()), path


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    BY_NAME["Llama"].model(torch.bfloat16)
    assert torch.equal(torch.rand(2), wanted)


def test_windows():
    assert BY_NAME["Mistral"].slides and BY_NAME["GPT-Neo"].slides
    assert not BY_NAME["StarCoder2"].slides and not BY_NAME["Llama"].slides
