"""Loads and stores of one task: index tensors become elements, and nothing outside a buffer is ever touched."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

import torch

from onelaunch.graph.expr import Expr
from onelaunch.targets.reference.frame import Frame
from onelaunch.targets.reference.frame import Path
from onelaunch.targets.reference.guard import Guard
from onelaunch.targets.reference.memory import View
from onelaunch.targets.reference.scalar import convert

Grid = tuple[list[int], list[int], int]  # sizes and strides, one an axis (aligned at the last), and the offset


class Access:
    """A task's operands by name. ``guard`` (debug mode) checks every element against the task's declaration."""

    def __init__(self, label: str, views: Mapping[str, View], guard: Guard | None) -> None:
        self.label, self.views, self.guard = label, views, guard

    def load(self, e: Expr, frame: Frame, path: Path) -> torch.Tensor:
        """The elements of LOAD ``e``; an index that is evaluated and lies outside raises IndexError."""
        view = self.views[e.attr]
        box = self._box(e.args, frame)
        if box is not None and all(lo >= 0 and hi < n for (lo, hi), n in zip(box, view.extents, strict=True)):
            mask = frame.mask(path)
            if self.guard is None or mask is None or self.guard.allows(view, box, write=False):
                if self.guard is not None and all(lo <= hi for lo, hi in box):
                    self.guard.box(view, box, write=False)
                sizes, strides, offset = self._grid(e.args, frame, view)
                if self.guard is not None:
                    self.guard.written(view, sizes, strides, offset, mask)
                return convert(view.at(sizes, strides, offset), view.dtype)
        return self._gather(view, e.args, frame, path)

    def store(self, name: str, index: Sequence[Expr], value: torch.Tensor, frame: Frame) -> None:
        """Store ``value`` at ``index`` for every value of the nest's variables; negative indices store nothing."""
        view = self.views[name]
        shape = tuple(hi - lo for lo, hi in (frame.ranges[v] for v in frame.plan.nest.vars))
        if 0 in shape:
            return
        value = _fit(value, shape).to(view.dtype.torch)
        box = self._box(index, frame)
        if box is not None and all(lo >= 0 and hi < n for (lo, hi), n in zip(box, view.extents, strict=True)):
            sizes, strides, offset = self._grid(index, frame, view)
            sizes, strides = [1] * (len(shape) - len(sizes)) + sizes, [0] * (len(shape) - len(strides)) + strides
            if tuple(sizes) == shape and self._single(index, frame):
                if self.guard is not None:
                    self.guard.box(view, box, write=True)
                    self.guard.mark(view, sizes, strides, offset)
                view.at(sizes, strides, offset).copy_(value)
                return
        self._scatter(view, index, value, frame, shape)

    def _single(self, index: Sequence[Expr], frame: Frame) -> bool:
        """Whether the index is plain variables and constants, so that no two elements meet."""
        parts = [frame.plan.affine(i) for i in index]
        return all(p is not None and len(p[0]) <= 1 and all(k > 0 for _, k in p[0]) for p in parts)

    def _box(self, index: Sequence[Expr], frame: Frame) -> list[tuple[int, int]] | None:
        """Lowest and highest index a dimension, where all rise with bound variables (low > high: empty), or None."""
        box = []
        for i in index:
            parts = frame.plan.affine(i)
            if parts is None or any(k < 0 for _, k in parts[0]):  # torch has no negative strides
                return None
            low = high = parts[2] + sum(k * frame.symbols[s.attr[0]] for s, k in parts[1])
            for v, k in parts[0]:
                first, last = frame.ranges[v]
                if first >= last:
                    return [(0, -1)] * len(index)
                low, high = low + k * first, high + k * (last - 1)
            box.append((low, high))
        return box

    def _grid(self, index: Sequence[Expr], frame: Frame, view: View) -> Grid:
        sizes: dict[int, int] = {}
        strides: dict[int, int] = {}
        offset = 0
        for i, stride in zip(index, view.strides, strict=True):
            parts = frame.plan.affine(i)
            assert parts is not None
            offset += stride * (parts[2] + sum(k * frame.symbols[s.attr[0]] for s, k in parts[1]))
            for v, k in parts[0]:
                axis = frame.plan.axis[v]
                first, last = frame.ranges[v]
                sizes[axis] = last - first
                strides[axis] = strides.get(axis, 0) + k * stride
                offset += k * stride * first
        rank = -min(sizes, default=0)
        axes = range(-rank, 0)
        if 0 in sizes.values():
            offset = 0
        return [sizes.get(a, 1) for a in axes], [strides.get(a, 0) for a in axes], offset

    def _gather(self, view: View, index: Sequence[Expr], frame: Frame, path: Path) -> torch.Tensor:
        indices = list(torch.broadcast_tensors(*(frame.value(i, path) for i in index)))
        mask = frame.mask(path)
        if mask is not None:
            *indices, mask = torch.broadcast_tensors(*indices, mask)
        for dimension, (i, n) in enumerate(zip(indices, view.extents, strict=True)):
            wrong = (i < 0) | (i >= n)
            if mask is not None:
                wrong = wrong & mask
            if wrong.any():
                self._refuse(view, dimension, int(i[wrong][0]), n)
            if mask is not None:
                indices[dimension] = torch.where(mask, i, 0)
        if self.guard is not None:
            self.guard.indices(view, indices, mask, write=False)
        offset = sum((i * s for i, s in zip(indices, view.strides, strict=True)), torch.zeros((), dtype=torch.int64))
        if view.flat.numel() == 0:
            return torch.zeros(offset.shape, dtype=view.dtype.compute.torch)
        if self.guard is not None:
            self.guard.written_at(view, offset, mask)
        return convert(view.flat[offset], view.dtype)

    def _scatter(
        self, view: View, index: Sequence[Expr], value: torch.Tensor, frame: Frame, shape: tuple[int, ...]
    ) -> None:
        indices = [_fit(frame.value(i), shape) for i in index]
        stored = torch.ones(shape, dtype=torch.bool)
        for i in indices:
            stored = stored & (i >= 0)
        chosen = [i[stored] for i in indices]
        for dimension, (i, n) in enumerate(zip(chosen, view.extents, strict=True)):
            if (i >= n).any():
                self._refuse(view, dimension, int(i[i >= n][0]), n)
        zero = torch.zeros(int(stored.sum()), dtype=torch.int64)
        offset = sum((i * s for i, s in zip(chosen, view.strides, strict=True)), zero)
        value = value[stored]
        if frame.plan.nest.walked:  # two steps may meet: the last one is the one that counts
            places, which = offset.flip(0).unique(return_inverse=True)
            last = torch.full_like(places, -1).scatter_reduce(0, which, torch.arange(len(which)).flip(0), "amax")
            offset, value = places, value[last]
            if self.guard is not None:
                chosen = [i[last] for i in chosen]
        if self.guard is not None:
            self.guard.indices(view, chosen, None, write=True)
            self.guard.mark_at(view, offset)
        view.flat[offset] = value

    def _refuse(self, view: View, dimension: int, index: int, size: int) -> None:
        raise IndexError(
            f"{self.label}: index {index} of dimension {dimension} of buffer {view.buffer.name} is outside its size "
            f"{size}"
        )


def _fit(value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """``value`` over the nest's variables alone: the axes of finished reductions have size 1 and go."""
    return value.reshape(value.shape[max(value.dim() - len(shape), 0) :]).expand(shape)
