"""Tiny random models saved to disk, shared by the tests of loading and generation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.tiny import save_tiny_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer fp32 model and a byte-level tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
