"""Binds a call's tensors to a program: reads every pointer at every call, validates what is not as it was last time.

Weights and state are mostly the tensor objects of the call before, at the same addresses: they are compared all at
once. A tensor that is another object, or lies elsewhere, is validated: element type, device, shape, strides, the bounds
of its storage, and that it shares no memory with an argument that the program writes. (A tensor resized in place, same
object and same address, is not noticed here: Dynamo's guards see that.) An argument whose strides are not those that
the program was compiled for is copied at each call where the program only reads it and it is small (COPY_LIMIT);
otherwise the call is refused.

No reference to a caller's tensor outlives the call.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import threading
import weakref
from collections.abc import Iterable
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
from onelaunch.runtime.forks import renewed_in_children
from onelaunch.runtime.outputs import Outputs
from onelaunch.runtime.overlap import Place
from onelaunch.runtime.overlap import Written
from onelaunch.runtime.overlap import place
from onelaunch.targets.base import Executable

COPY_LIMIT = 1 << 20  # bytes of an argument that is copied at each call because its strides do not fit

_data_ptr = torch.Tensor.data_ptr


class MovedError(CallError):
    """An argument is not on the device of the others, or of those of the last call: the next call binds anew."""


class Binding:
    """One program, ready to be called. Calls of several threads take turns.

    ``device``: the type of device that the arguments are on. All of a call's are on the same one of that type.
    """

    def __init__(self, program: Program, executable: Executable, device: str = "cpu") -> None:
        self.program, self.executable, self.device = program, executable, device
        self.lock = threading.Lock()
        self.keep: object = None  # whatever must live as long as the binding
        self.copies = 0  # arguments copied so far because of their strides
        numbered = list(enumerate(program.buffers))
        stable = [(n, b) for n, b in numbered if b.role in (Role.WEIGHT, Role.STATE)]
        bound = stable + [(n, b) for n, b in numbered if b.role is Role.INPUT]
        self.numbers = [n for n, _ in bound]  # slot -> number of the buffer; stable slots first
        self.buffers = [b for _, b in bound]
        self.dtypes = [b.dtype.torch for b in self.buffers]
        self.outputs = Outputs(program, device)
        self._stable = len(stable)
        self._pick = _picker([b.argument for _, b in stable])
        self._inputs = [(slot, n, b.argument) for slot, (n, b) in enumerate(bound) if b.role is Role.INPUT]
        # An executable may offer its own table of addresses, so that nothing is copied at a launch.
        self._table: Any = getattr(executable, "addresses", None) or [0] * len(program.buffers)
        self._values: tuple[int, ...] | None = None
        self._forget()
        renewed_in_children(self)

    def renew(self) -> None:
        """In a forked child: another thread may have been in the middle of a call."""
        self.lock = threading.Lock()
        self._values = None

    def call(self, args: Sequence[Any], values: tuple[int, ...]) -> dict[int, torch.Tensor]:
        """Launch once. ``args``: the call's arguments; ``values``: those of the program's symbols.

        Returns the fresh results by number. Raises CallError where an argument does not fit; nothing has run then.
        """
        with self.lock:
            try:
                tensors = self._pick(args)
                pointers = list(map(_data_ptr, tensors))
                if values != self._values:
                    self._resize(values)
                table, ids = self._table, self._ids
                # Inputs first: what is written now may lie where an input of the last call lay.
                fresh: list[int] = []
                for slot, number, position in self._inputs:
                    t = args[position]
                    pointer = _data_ptr(t)
                    if pointer != table[number] or id(t) != ids[slot]:
                        self._bind(slot, t, pointer)
                        fresh.append(slot)
                if pointers != self._pointers or identities(tensors) != self._seen:
                    self._rebind(tensors, pointers)
                self._refuse_overlap(fresh)
            except TypeError:
                self._values = None
                raise self._not_tensors(args) from None
            except CallError:
                self._values = None  # whatever was bound is bound and validated again
                raise
            if self._home is not None:
                self.outputs.device = torch.device(self.device, self._home)
                self.executable.device = self._home  # type: ignore[attr-defined]
            results = self.outputs.allocate(table)
            self.executable.launch(table, values)
        return results

    def _forget(self) -> None:
        count = len(self.buffers)
        self._home: int | None = None  # number of the device of the arguments, where there are several
        self._seen = b""  # identities of the stable tensors of the last call, while all of them live
        self._pointers = [-1] * self._stable
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

    def _rebind(self, tensors: tuple[torch.Tensor, ...], pointers: list[int]) -> None:
        """Bind the stable tensors that are not those of the last call."""
        count, ids = range(len(tensors)), list(map(id, tensors))
        changed = {*compress(count, map(ne, pointers, self._pointers)), *compress(count, map(ne, ids, self._ids))}
        for slot in sorted(changed):
            self._bind(slot, tensors[slot], pointers[slot])
        if any(self.buffers[slot].role is Role.STATE for slot in changed):
            state = [p for p, b in zip(self._places, self.buffers, strict=True) if b.role is Role.STATE]
            self._written = Written(p for p in state if p is not None)
            self._refuse_overlap(range(len(self.buffers)))
        else:
            self._refuse_overlap(changed)
        self._pointers, self._seen = pointers, identities(tensors)

    def _bind(self, slot: int, t: torch.Tensor, pointer: int) -> None:
        self._table[self.numbers[slot]] = pointer
        self._staged.pop(slot, None)
        self._places[slot] = self._validate(slot, t, pointer)
        self._refs[slot] = weakref.ref(t, self._forgetter(slot))
        self._ids[slot] = id(t)

    def _forgetter(self, slot: int) -> Any:
        """Called when the tensor of ``slot`` dies: another one may get its id, and must not be taken for it."""
        ids, own = self._ids, weakref.ref(self)

        def forget(_: object) -> None:
            ids[slot] = 0
            if (binding := own()) is not None:
                binding._seen = b""

        return forget

    def _validate(self, slot: int, t: torch.Tensor, pointer: int) -> Place | None:
        """The memory of an argument that fits; raises CallError for one that does not."""
        b, shape, strides = self.buffers[slot], self._shapes[slot], self._strides[slot]
        if t.dtype is not self.dtypes[slot]:
            raise _error(b, f"is {t.dtype}", str(self.dtypes[slot]))
        if t.device.type != self.device:
            raise _error(b, f"is on {t.device}", self.device)
        if self.device == "cuda" and t.device.index != self._home:
            if self._home is not None:
                raise MovedError(
                    str(_error(b, f"is on {t.device}", f"{self.device}:{self._home}, where other arguments are"))
                )
            self._home = t.device.index
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
            raise _error(b, f"has strides {t.stride()}", f"{strides} (only inputs up to {COPY_LIMIT} bytes are copied)")
        self._staged[slot] = staged = torch.empty_strided(self._shapes[slot], strides, dtype=t.dtype, device=t.device)
        staged.copy_(t)
        self._table[self.numbers[slot]] = staged.data_ptr()
        self.copies += 1

    def _refuse_overlap(self, slots: Iterable[int]) -> None:
        """Raise CallError where one of these arguments shares memory with another one that is written."""
        for slot in slots:
            p = self._places[slot]
            other = None if p is None else self._written.collision(p)
            if p is not None and other is not None and not self._same_argument(p, other):
                first, second = self.buffers[other.slot], self.buffers[slot]
                raise CallError(
                    f"argument {first.argument} ({first.name}), which is written in place, shares memory with argument "
                    f"{second.argument} ({second.name}); accepted: separate memory"
                )

    def _same_argument(self, p: Place, q: Place) -> bool:
        return self.buffers[p.slot].argument == self.buffers[q.slot].argument

    def _not_tensors(self, args: Sequence[Any]) -> CallError:
        for b in self.buffers:
            if not isinstance(args[b.argument], torch.Tensor):
                return _error(b, f"is a {type(args[b.argument]).__name__}", "a tensor")
        return CallError("an argument's memory cannot be read; accepted: plain tensors")


def device_of(executable: Executable) -> str:
    """The type of device whose memory an executable reads."""
    return str(getattr(executable, "device_type", "cpu"))


def _error(b: Buffer, found: str, accepted: str) -> CallError:
    return CallError(f"argument {b.argument} ({b.name}) {found}; accepted: {accepted}")


def _picker(positions: list[int]) -> Any:
    """A function that picks these elements of a sequence, as a tuple."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda args: tuple(args[p] for p in positions)


def _packed(things: tuple[Any, ...]) -> bytes:
    return struct.pack(f"{len(things)}P", *map(id, things))


def _raw(things: tuple[Any, ...]) -> bytes:
    """The same, as CPython keeps it: the addresses of its elements lie behind a tuple's header."""
    return ctypes.string_at(id(things) + tuple.__basicsize__, ctypes.sizeof(ctypes.c_void_p) * len(things))


_SAMPLE = (None, 1, "two", 3.0, ())
# Bytes that are equal for tuples of the same objects, and only for those. The raw form takes 1 us for 400 objects
# where asking for each one's id takes 10; other interpreters lay tuples out as they like.
identities = _raw if sys.implementation.name == "cpython" and _raw(_SAMPLE) == _packed(_SAMPLE) else _packed
