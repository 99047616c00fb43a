"""Binds a call's tensors to a program: reads every pointer at every call, validates what is not as it was last time.

The common call passes mostly the tensor objects of the call before, at the same addresses. Then two comparisons of
lists of integers are all that is done for them. A tensor that is another object, or lies elsewhere, is validated:
element type, device, shape, strides, the bounds of its storage, and that it shares no memory with an argument that the
program writes. An argument whose strides are not those that the program was compiled for is copied before the launch
where the program only reads it and it is small (COPY_LIMIT); otherwise the call is refused.

No reference to a caller's tensor outlives the call.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from itertools import compress
from operator import itemgetter
from operator import ne
from typing import Any

import torch

from onelaunch.errors import CallError
from onelaunch.program.program import Buffer
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.runtime.extents import evaluate_all
from onelaunch.runtime.outputs import Outputs
from onelaunch.runtime.overlap import Place
from onelaunch.runtime.overlap import Written
from onelaunch.runtime.overlap import place
from onelaunch.targets.base import Executable

COPY_LIMIT = 1 << 20  # bytes of an argument that is copied at each call because its strides do not fit

_BOUND = (Role.WEIGHT, Role.INPUT, Role.STATE)
_data_ptr = torch.Tensor.data_ptr


class Binding:
    """One program, ready to be called. Calls of several threads take turns."""

    def __init__(self, program: Program, executable: Executable, device: str = "cpu") -> None:
        self.program, self.executable, self.device = program, executable, device
        self.lock = threading.Lock()
        self.keep: object = None  # whatever must live as long as the binding
        self.copies = 0  # arguments copied so far because of their strides
        bound = [(n, b) for n, b in enumerate(program.buffers) if b.role in _BOUND]
        self.numbers = [n for n, _ in bound]  # slot -> number of the buffer
        self.buffers = [b for _, b in bound]
        self.dtypes = [b.dtype.torch for b in self.buffers]
        self.outputs = Outputs(program, device)
        self._pick = _picker([b.argument for b in self.buffers])
        self._table = [0] * len(program.buffers)
        self._values: tuple[int, ...] | None = None
        self._forget()

    def call(self, args: Sequence[Any], values: tuple[int, ...]) -> dict[int, torch.Tensor]:
        """Launch once. ``args``: the call's arguments; ``values``: those of the program's symbols.

        Returns the fresh results by number. Raises CallError where an argument does not fit; nothing has run then.
        """
        with self.lock:
            tensors = self._pick(args)
            try:
                pointers = list(map(_data_ptr, tensors))
            except TypeError:
                raise self._not_tensors(tensors) from None
            if values != self._values:
                self._resize(values)
            if pointers != self._pointers or list(map(id, tensors)) != self._ids:
                self._rebind(tensors, pointers)
            if self._staged:
                self._copy(tensors)
            results = self.outputs.allocate(self._table)
            self.executable.launch(self._table, values)
        return results

    def _forget(self) -> None:
        count = len(self.buffers)
        self._pointers = [-1] * count
        self._ids = [0] * count
        self._refs: list[Any] = [None] * count
        self._places: list[Place | None] = [None] * count
        self._written = Written(())
        self._staged: dict[int, torch.Tensor] = {}

    def _resize(self, values: tuple[int, ...]) -> None:
        """The symbols have other values: every extent is evaluated and every argument validated again."""
        self._forget()
        names = dict(zip((s.name for s in self.program.symbols), values, strict=True))
        self._shapes = [evaluate_all(b.shape, names) for b in self.buffers]
        self._strides = [evaluate_all(b.strides, names) for b in self.buffers]
        self.outputs.resize(names)
        self._values = values

    def _rebind(self, tensors: Sequence[torch.Tensor], pointers: list[int]) -> None:
        ids = list(map(id, tensors))
        count = range(len(tensors))
        changed = {*compress(count, map(ne, pointers, self._pointers)), *compress(count, map(ne, ids, self._ids))}
        try:
            for slot in changed:
                self._staged.pop(slot, None)
                self._places[slot] = self._validate(slot, tensors[slot], pointers[slot])
            self._refuse_overlap(changed)
        except CallError:
            self._values = None  # whatever was validated is validated again
            raise
        for slot in changed:
            self._ids[slot] = ids[slot]
            self._refs[slot] = weakref.ref(tensors[slot], _forgetter(self._ids, slot))
            if slot not in self._staged:
                self._table[self.numbers[slot]] = pointers[slot]
        self._pointers = pointers

    def _validate(self, slot: int, t: torch.Tensor, pointer: int) -> Place | None:
        """The memory of an argument that fits; raises CallError for one that does not."""
        b, shape, strides = self.buffers[slot], self._shapes[slot], self._strides[slot]
        if t.dtype is not self.dtypes[slot]:
            raise _error(b, f"is {t.dtype}", str(self.dtypes[slot]))
        if t.device.type != self.device:
            raise _error(b, f"is on {t.device}", self.device)
        if t.layout is not torch.strided or t.is_neg():
            raise _error(b, f"is {t.layout}, negated lazily: {t.is_neg()}", "a plain strided tensor")
        if t.shape != shape:
            raise _error(b, f"has shape {tuple(t.shape)}", str(shape))
        own = t.stride()
        if own != strides and any(n > 1 and a != s for n, a, s in zip(shape, own, strides, strict=True)):
            self._stage(slot, t)
        found = place(slot, pointer, shape, own, t.element_size())
        if found is not None:
            storage = t.untyped_storage()
            start = storage.data_ptr()
            if not pointer or pointer < start or found.high > start + storage.nbytes():
                raise _error(b, f"has a storage of {storage.nbytes()} bytes", "one that holds all of its elements")
        return found

    def _stage(self, slot: int, t: torch.Tensor) -> None:
        b, strides = self.buffers[slot], self._strides[slot]
        if b.role is not Role.INPUT or t.nbytes > COPY_LIMIT:
            raise _error(b, f"has strides {t.stride()}", f"{strides} for a {b.role} of {t.nbytes} bytes")
        staged = torch.empty_strided(self._shapes[slot], strides, dtype=t.dtype, device=t.device)
        self._staged[slot] = staged
        self._table[self.numbers[slot]] = staged.data_ptr()

    def _copy(self, tensors: Sequence[torch.Tensor]) -> None:
        for slot, staged in self._staged.items():
            staged.copy_(tensors[slot])
            self.copies += 1

    def _refuse_overlap(self, changed: set[int]) -> None:
        """Raise CallError where an argument that is written shares memory with another one."""
        suspects: Sequence[Place | None] = [self._places[slot] for slot in changed]
        if any(self.buffers[slot].role is Role.STATE for slot in changed):
            written = [p for p, b in zip(self._places, self.buffers, strict=True) if b.role is Role.STATE]
            self._written = Written(p for p in written if p is not None)
            suspects = self._places
        for p in suspects:
            other = None if p is None else self._written.collision(p)
            if p is not None and other is not None and not self._same_argument(p, other):
                first, second = self.buffers[other.slot], self.buffers[p.slot]
                raise CallError(
                    f"argument {first.argument} ({first.name}), which is written in place, shares memory with argument "
                    f"{second.argument} ({second.name}); accepted: separate memory"
                )

    def _same_argument(self, p: Place, q: Place) -> bool:
        return self.buffers[p.slot].argument == self.buffers[q.slot].argument

    def _not_tensors(self, values: Sequence[Any]) -> CallError:
        for b, value in zip(self.buffers, values, strict=True):
            if not isinstance(value, torch.Tensor):
                return _error(b, f"is a {type(value).__name__}", "a tensor")
        return CallError("an argument's memory cannot be read")


def _error(b: Buffer, found: str, accepted: str) -> CallError:
    return CallError(f"argument {b.argument} ({b.name}) {found}; accepted: {accepted}")


def _picker(positions: list[int]) -> Any:
    """A function that picks these elements of a sequence, as a sequence."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda args: tuple(args[p] for p in positions)


def _forgetter(ids: list[int], slot: int) -> Any:
    """Called when the tensor of ``slot`` dies: another one may get its id, and must not be taken for it."""

    def forget(ref: Any) -> None:
        ids[slot] = 0

    return forget
