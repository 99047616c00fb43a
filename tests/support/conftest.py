"""Every test here starts with an empty Dynamo, one math thread, and the backend under its name."""

import contextlib

import pytest
import torch

from onelaunch.frontend import backend as backend_module

pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def fresh():
    with contextlib.suppress(AssertionError):  # also where the package is not installed
        torch._dynamo.register_backend(backend_module.backend, name="onelaunch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.set_num_threads(threads)
