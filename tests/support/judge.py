"""What the numerics contract asks of decode steps: the comparisons, and nothing that runs a model.

fp32: every step's logits within TOLERANCE of eager (norm of the difference over norm), the same greedy tokens, the same
cache. bf16: over teacher-forced steps, the error against fp32 at most BF16_RATIO times that of eager bf16. Either way,
a step is one launch.
"""

from __future__ import annotations

from collections import Counter

import torch

from onelaunch.frontend.fallback import Fallback
from tests.support.steps import Counts
from tests.support.steps import Run

TOLERANCE = 1e-4
BF16_RATIO = 1.5
ALLOCATIONS = {"aten.empty_strided.default"}
MOST_GRAPHS = 3  # a sliding layer counts in a Python integer: a constant, then a symbol, then the full window


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """The norm of the difference over the norm of what is right; infinite where something is not a number."""
    error = ((got - wanted).norm() / wanted.norm()).item()
    return error if error == error else float("inf")


def logits_error(got: Run, wanted: Run) -> float:
    """The greatest ``relative`` error of any row of any step."""
    errors = (got.logits - wanted.logits).norm(dim=-1) / wanted.logits.norm(dim=-1)
    return errors.nan_to_num(torch.inf, torch.inf, torch.inf).max().item()


def cache_error(got: Run, wanted: Run) -> float:
    """The greatest ``relative`` error of any layer's keys or values at any position."""
    worst = 0.0
    for a, b in zip(got.cache, wanted.cache, strict=True):
        errors = (a - b).norm(dim=(1, 3)) / b.norm(dim=(1, 3)).clamp_min(1e-3 * b.norm().item() + 1e-30)
        worst = max(worst, errors.nan_to_num(torch.inf, torch.inf, torch.inf).max().item())
    return worst


def differences(got: Run, wanted: Run) -> set[str]:
    """In what an fp32 run differs from eager's: of "logits", "tokens", "cache"; empty where the contract holds."""
    found = set()
    if logits_error(got, wanted) > TOLERANCE:
        found.add("logits")
    if not torch.equal(got.tokens, wanted.tokens):
        found.add("tokens")
    if cache_error(got, wanted) > TOLERANCE:
        found.add("cache")
    return found


def bf16_errors(got: Run, eager: Run, exact: Run) -> tuple[float, float]:
    """Errors against ``exact`` (fp32), over all steps together: of the run, and of eager bf16."""
    return relative(got.logits, exact.logits), relative(eager.logits, exact.logits)


def one_launch_a_step(counts: Counts, run: Run) -> list[str]:
    """Why the steps were not one program a graph and one launch a step, with nothing left to torch but the making of
    the outputs; empty where they were.
    """
    if not counts.graphs:
        return ["no graph of a step came to the backend"]
    if counts.fallbacks or counts.torch_parts:  # more launches and operators follow from that
        said = Counter(map(_short, counts.fallbacks))
        return [f"{counts.torch_parts} parts in torch: {', '.join(f'{n} {what}' for what, n in said.items())}"]
    found = []
    if counts.programs != counts.graphs or not 1 <= counts.graphs <= MOST_GRAPHS:
        found.append(f"{counts.graphs} graphs, {counts.programs} programs")
    if counts.launches != run.steps:
        found.append(f"{counts.launches} launches in {run.steps} steps")
    if counts.wrapped:
        found.append(f"calls pass through a wrapper: {counts.wrapped[0]}")
    outside = in_torch(run)
    if outside is None:
        found.append("the last step compiled: its operators in torch are not known")
    elif outside:
        found.append(f"{sum(outside.values())} operators of a step in torch: {', '.join(sorted(outside))}")
    return found


def _short(fallback: Fallback) -> str:
    """The op, and why, unless it is simply not known."""
    return fallback.op if fallback.reason.startswith("no lowering rule") else f"{fallback.op} ({fallback.reason})"


def in_torch(run: Run) -> dict[str, int] | None:
    """The operators of the last step that torch ran, by name; making the outputs, outside every launch, is left out.
    None: not known.
    """
    if run.operators is None:
        return None
    return {name: count for name, count in run.operators.items() if name not in ALLOCATIONS}
