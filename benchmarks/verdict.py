"""Whether a peer computes the same model: logits against fp32, the same tokens fed to both."""

from __future__ import annotations

from dataclasses import dataclass

import torch

ALLOWED = 1.5  # times the error of eager in the same dtype


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far logits lie from fp32's.

    Attributes:
        error: ‖logits - reference‖ / ‖reference‖ over all positions, each row less its mean (which no softmax sees).
        of_eager: that error over eager's in the same dtype.
        same_choice: share of positions whose likeliest token is the reference's.
    """

    error: float
    of_eager: float
    same_choice: float

    @property
    def right(self) -> bool:
        """Whether the error is what the dtype explains."""
        return self.of_eager <= ALLOWED


def relative_error(logits: torch.Tensor, reference: torch.Tensor) -> float:
    """The error of ``Verdict``; both are [positions, vocabulary]."""
    ours, exact = (x.double() - x.double().mean(-1, keepdim=True) for x in (logits, reference))
    return float((ours - exact).norm() / exact.norm())


def judge(logits: torch.Tensor, reference: torch.Tensor, eager: torch.Tensor) -> Verdict:
    """Compare ``logits`` with fp32's ``reference``, measured by what ``eager`` has; all [positions, vocabulary]."""
    error = relative_error(logits, reference)
    same = (logits.argmax(-1) == reference.argmax(-1)).double().mean()
    return Verdict(error, error / relative_error(eager, reference), float(same))
