"""GPU architectures that sources are written for, each with the figures of one card.

Programs ran on one of them. For the others sources are compiled as a check, and bandwidths are those of data sheets.
"""

from __future__ import annotations

import dataclasses

from onelaunch.program import machine as machines
from onelaunch.program.machine import Machine


@dataclasses.dataclass(frozen=True, slots=True)
class Architecture:
    """One of them. ``name``: as NVRTC takes it."""

    name: str
    capability: tuple[int, int]
    shared: int  # bytes of shared memory that a block may have
    card: str
    processors: int  # multiprocessors of the card
    bandwidth: float  # GB/s that the card reads: measured if tested, else its data sheet's
    tested: bool

    def machine(self, workers: int) -> Machine:
        """A machine with so many resident blocks. But for name and bandwidth, its constants are the tested card's."""
        return machines.cuda(workers, f"cuda-{self.name.replace('_', '')}", self.bandwidth / self.processors)


TESTED = Architecture("sm_90a", (9, 0), 227 * 1024, "H200", 132, 4600.0, True)
ARCHITECTURES = (
    TESTED,
    Architecture("sm_100a", (10, 0), 227 * 1024, "B200", 148, 8000.0, False),
    Architecture("sm_120a", (12, 0), 99 * 1024, "GeForce RTX 5090", 170, 1792.0, False),
)


def of(capability: tuple[int, int]) -> Architecture | None:
    """The architecture of a GPU; None: sources are not written for it. Code with an ``a`` runs on no other."""
    return next((a for a in ARCHITECTURES if a.capability == capability), None)
