"""Debug mode: every element a task touches is compared with what the task declares and with who wrote it last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch

from onelaunch.errors import AccessError
from onelaunch.program.program import Region
from onelaunch.program.program import Span
from onelaunch.program.program import Task
from onelaunch.targets.reference.memory import View

Box = Sequence[tuple[int, int]]  # lowest and highest index a dimension


class Guard:
    """The declared regions of one task, by buffer."""

    def __init__(self, label: str, task: Task, views: Sequence[View]) -> None:
        self.label, self.views = label, views
        self.reads = self._by_buffer(task.reads)
        self.writes = self._by_buffer(task.writes)

    @staticmethod
    def _by_buffer(regions: Sequence[Region]) -> dict[int, list[Region]]:
        table: dict[int, list[Region]] = {}
        for region in regions:
            table.setdefault(region.buffer, []).append(region)
        return table

    def _declared(self, view: View, write: bool) -> list[Region]:
        return (self.writes if write else self.reads).get(view.number, [])

    def allows(self, view: View, box: Box, write: bool) -> bool:
        """Whether one declared region holds the whole box."""
        return any(
            all(s.via is None and s.low <= lo and hi < s.high for (lo, hi), s in zip(box, region.box, strict=True))
            for region in self._declared(view, write)
        )

    def box(self, view: View, box: Box, write: bool) -> None:
        """Check a dense box of elements."""
        if not self.allows(view, box, write):
            axes = [torch.arange(lo, hi + 1) for lo, hi in box]
            grids = list(torch.meshgrid(*axes, indexing="ij")) if axes else []
            self.indices(view, grids, None, write)

    def indices(self, view: View, indices: Sequence[torch.Tensor], mask: torch.Tensor | None, write: bool) -> None:
        """Check elements one by one (``mask``: only these)."""
        shape = torch.broadcast_shapes(*(i.shape for i in indices)) if indices else ()
        inside = torch.zeros(shape, dtype=torch.bool)
        for region in self._declared(view, write):
            member = torch.ones(shape, dtype=torch.bool)
            for i, span in zip(indices, region.box, strict=True):
                member = member & self._in_span(i, span)
            inside = inside | member
        wrong = ~inside if mask is None else ~inside & mask
        if wrong.any():
            at = ", ".join(str(int(i.expand(shape)[wrong][0])) for i in indices)
            verb = "writes" if write else "reads"
            raise AccessError(f"{self.label} {verb} {view.buffer.name}[{at}], which is outside its declared regions")

    def _in_span(self, index: torch.Tensor, span: Span) -> torch.Tensor:
        inside = (index >= span.low) & (index < span.high)
        if span.via is not None:
            picks, first, last = span.via
            inside = inside & torch.isin(index, self.views[picks].whole().reshape(-1)[first:last].to(torch.int64))
        return inside

    def written(self, view: View, sizes: list[int], strides: list[int], offset: int, mask: torch.Tensor | None) -> None:
        """Check that a grid of elements was last written through this very buffer."""
        if view.tags is None or 0 in sizes:
            return
        tags = view.tags_at(sizes, strides, offset)
        wrong = (tags != view.number).any(-1)
        if wrong.any() and (mask is None or (wrong & mask).any()):
            tag = int(tags[(tags != view.number)][0])
            self._stale(view, tag)

    def written_at(self, view: View, offset: torch.Tensor, mask: torch.Tensor | None) -> None:
        """Check elements one by one, by their offsets."""
        if view.tags is None:
            return
        size = view.dtype.itemsize
        tags = view.tags[offset.unsqueeze(-1) * size + torch.arange(size)]
        wrong = (tags != view.number).any(-1)
        if mask is not None:
            wrong = wrong & mask
        if wrong.any():
            found = tags[wrong]
            self._stale(view, int(found[found != view.number][0]))

    def mark(self, view: View, sizes: list[int], strides: list[int], offset: int) -> None:
        """Note a grid of elements as written."""
        if view.tags is not None:
            view.tags_at(sizes, strides, offset).fill_(view.number)

    def mark_at(self, view: View, offset: torch.Tensor) -> None:
        """Note elements as written, by their offsets; two at one place are an error."""
        if offset.unique().numel() != offset.numel():
            raise AccessError(f"{self.label} stores two elements at one place of {view.buffer.name}")
        if view.tags is not None:
            size = view.dtype.itemsize
            view.tags[offset.unsqueeze(-1) * size + torch.arange(size)] = view.number

    def _stale(self, view: View, tag: int) -> NoReturn:
        owner = "nobody wrote" if tag < 0 else f"{self.views[tag].buffer.name} has overwritten"
        raise AccessError(f"{self.label} reads an element of {view.buffer.name} that {owner}")
