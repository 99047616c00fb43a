"""Pictures of a program, as self-contained SVG: its ops and what they depend on, and the queue of each worker."""

from onelaunch.program.draw_ops import draw_ops
from onelaunch.program.draw_queues import draw_queues

__all__ = ["draw_ops", "draw_queues"]
