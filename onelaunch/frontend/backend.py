"""The ``torch.compile`` backend, found by name through the ``torch_dynamo_backends`` entry points."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from torch.fx import GraphModule

from onelaunch.frontend import options as option_table
from onelaunch.frontend.calling import Runner
from onelaunch.frontend.compiler import compile_graph

log = logging.getLogger(__name__)


def backend(
    gm: GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Runner:
    """Compile one Dynamo graph; ``torch.compile(f, backend="onelaunch", options={...})`` calls this.

    ``mode`` is accepted and means nothing here; other keyword arguments (guard filters and the like) concern torch and
    are ignored. Raises OptionError for an unknown option or value, UnsupportedError with ``fallback="error"``.
    """
    option_table.explain_mode(mode)
    if kwargs:
        log.debug("ignoring %s", ", ".join(sorted(kwargs)))
    return compile_graph(gm, example_inputs, option_table.parse(options)).run
