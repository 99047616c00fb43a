"""Values inside a function that a whole block of threads runs together.

A block of code belongs to a team: all computing threads, one warp, or one thread. What a team computes, every member
computes, so that each has the value in a register; only reductions are dealt out to the members and combined. What
depends on a variable whose steps went to single threads is computed by these alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.loops import Members
from onelaunch.targets.source.writer import Writer

BLOCK, WARP = "block", "warp"  # Block.shared; ALONE is in onelaunch.targets.source.loops
MEMBERS: Mapping[str, Members] = {  # sizes are those of types.cuh
    BLOCK: Members("thread_of_block()", "kThreads", 256),
    WARP: Members("lane_of_warp()", "kLanes", 32),
}
WARPS = Members("warp_of_block()", "kWarps", 8)
_COMBINE = {"sum": "Sum", "prod": "Product", "max": "Largest", "min": "Smallest"}
_COMBINE_BOOL = {"sum": "Either", "prod": "Both", "max": "Either", "min": "Both"}


class TeamWriter(Writer):
    """See ``onelaunch.targets.source.writer.Writer``."""

    def team(self, block: Block) -> str:
        """Who runs the statements of ``block``."""
        return next((b.shared for b in block.outwards() if b.shared), BLOCK)

    def dealt(self, block: Block) -> Members | None:
        """See ``Writer.dealt``."""
        return MEMBERS.get(self.team(block))

    def combined(self, name: str, e: Expr, block: Block) -> str:
        """See ``Writer.combined``."""
        team = self.team(block)
        table = _COMBINE_BOOL if e.dtype.compute is DType.BOOL else _COMBINE
        where = ", *scratch.exchange" if team == BLOCK else ""
        return f"{name} = reduce_{team}<{table[e.attr]}>({name}{where});"
