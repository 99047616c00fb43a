"""Calling transformers' ``from_pretrained`` so that no weight is left at its random initial value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onelaunch.errors import UserError


class ModelLoadError(UserError):
    """A model file or folder cannot be loaded; the message names it and says what is accepted."""


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' own bars and advice while inside; errors still raise."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def build_model(path: Path, folder: Path, **arguments: Any) -> Any:
    """``AutoModelForCausalLM.from_pretrained(folder, **arguments)`` in eval mode, never from the network.

    Raises:
        ModelLoadError: transformers cannot build it, or ``path`` lacks some of the model's weights, which
            transformers would fill with random numbers and a warning.
    """
    from transformers import AutoModelForCausalLM

    try:
        with quiet_transformers():
            model, report = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, **arguments
            )
    except Exception as error:
        raise ModelLoadError(f"cannot load a model from {path}: {first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelLoadError(f"{path} lacks {len(missing)} of the model's weights, the first is {missing[0]}")
    return model.eval()


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
