"""Assemble: ordered nodes on storages become a program (kernels, tiles, memory, order, place)."""

from __future__ import annotations

import dataclasses
import math

from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.nest import Nest
from onelaunch.program.machine import Machine
from onelaunch.program.program import Buffer
from onelaunch.program.program import Event
from onelaunch.program.program import Kernel
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Task
from onelaunch.program.program import contiguous
from onelaunch.transform import cost
from onelaunch.transform import memory
from onelaunch.transform.inplace import Ordered
from onelaunch.transform.kernels import kernel_of
from onelaunch.transform.order import Order
from onelaunch.transform.place import Schedule
from onelaunch.transform.siblings import worker_shares
from onelaunch.transform.tile import Box
from onelaunch.transform.tile import Footprint
from onelaunch.transform.tile import Tile
from onelaunch.transform.tile import footprint
from onelaunch.transform.tile import tiles
from onelaunch.transform.width import HALF
from onelaunch.transform.width import width


def assemble(graph: Graph, ordered: Ordered, machine: Machine) -> Program:
    """The program that runs the ordered nodes on a machine."""
    buffers = _buffers(graph, ordered, machine)
    touches = [(n.nest.target, *n.reads) for n in ordered.nodes]
    lives = memory.lifetimes(touches)
    lives |= {b.name: (0, len(touches)) for b in buffers if b.role is Role.WORKSPACE and b.dtype in HALF}  # width.py
    sizes = {b.name: b.nbytes for b in buffers if b.role is Role.WORKSPACE}
    offsets, workspace = memory.layout(sizes, lives, machine.alignment)
    buffers = [dataclasses.replace(b, offset=offsets[b.name]) if b.name in offsets else b for b in buffers]
    ids = {b.name: n for n, b in enumerate(buffers)}
    reuses = {ids[b]: [ids[a] for a in old] for b, old in memory.sharing(sizes, offsets, lives).items()}
    fixed = {n for n, b in enumerate(buffers) if b.role in (Role.WEIGHT, Role.INPUT)}
    work = _Tasks(machine, buffers, Order([math.prod(b.extents) for b in buffers], reuses, fixed))
    for node, workers in zip(ordered.nodes, worker_shares(ordered.nodes, machine), strict=True):
        work.add_op(node, workers)
    return work.program(graph, workspace)


def _buffers(graph: Graph, ordered: Ordered, machine: Machine) -> list[Buffer]:
    """Arguments, outputs and intermediates, those that no node touches left out."""
    written = {n.nest.target for n in ordered.nodes}
    users: dict[str, list[Nest]] = {}
    for node in ordered.nodes:
        for name in node.reads:
            users.setdefault(name, []).append(node.nest)
    used = written | {r for n in ordered.nodes for r in n.reads}
    found: list[Buffer] = []
    for a in graph.arguments:
        role = Role.STATE if a.value.name in written else Role.WEIGHT if a.constant else Role.INPUT
        if a.value.name in used:
            found.append(Buffer(a.value.name, a.value.dtype, a.value.shape, a.strides, role, a.position))
    arguments = {a.value.name for a in graph.arguments}
    for node in ordered.nodes:
        name, out = node.nest.target, node.out
        if name in arguments or name != out.name:
            continue
        if name in graph.outputs:
            n = graph.outputs.index(name)
            found.append(Buffer(name, out.dtype, out.shape, graph.output_strides[n], Role.OUTPUT, n))
        else:
            dtype = width(name, out.dtype, users.get(name, []), machine)
            found.append(Buffer(name, dtype, out.shape, contiguous(out.shape), Role.WORKSPACE))
    return found


class _Tasks:
    """Collects kernels, tasks and their schedule, op by op."""

    def __init__(self, machine: Machine, buffers: list[Buffer], order: Order) -> None:
        self.machine, self.buffers, self.order = machine, buffers, order
        self.by_name = {b.name: b for b in buffers}
        self.ids = {b.name: n for n, b in enumerate(buffers)}
        self.kernels: dict[Kernel, int] = {}
        self.plans: dict[tuple[int, int], tuple[list[tuple[Tile, Footprint]], float]] = {}
        self.schedule = Schedule(machine)
        self.labels: list[str] = []
        self.tasks: list[tuple[int, int, tuple[int, ...], Tile, Footprint]] = []
        self._boxes: dict[Box, Box] = {}
        self._regions: dict[tuple[int, int], Region] = {}

    def add_op(self, node: Node, workers: int) -> None:
        kernel, names = kernel_of(node.nest, self.by_name)
        number = self.kernels.setdefault(kernel, len(self.kernels))
        if (number, workers) not in self.plans:
            boxes = tiles(kernel.nest, self.machine, workers)
            share = cost.work(kernel.nest, self.machine) / len(boxes)
            estimate = self.machine.task + cost.prologue_cost(kernel.nest, self.machine) + share
            self.plans[number, workers] = [(t, self._shared(footprint(kernel, t))) for t in boxes], estimate
        plan, estimate = self.plans[number, workers]
        operands = tuple(self.ids[n] for n in names)
        accesses = [
            ([(operands[o], box) for o, box in foot.reads], [(operands[o], box) for o, box in foot.writes])
            for _, foot in plan
        ]
        after = self.order.add_op(len(self.tasks), accesses)
        for (tile, foot), groups in zip(plan, after, strict=True):
            self.schedule.add(groups, estimate)
            self.tasks.append((len(self.labels), number, operands, tile, foot))
        self.labels.append(_label(node.nest, node))

    def _shared(self, foot: Footprint) -> Footprint:
        """The footprint with equal boxes made one object."""

        def shared(accesses: tuple[tuple[int, Box], ...]) -> tuple[tuple[int, Box], ...]:
            return tuple((o, self._boxes.setdefault(box, box)) for o, box in accesses)

        return Footprint(shared(foot.reads), shared(foot.writes))

    def program(self, graph: Graph, workspace: int) -> Program:
        signals = self.schedule.signals()
        totals = [len(g.tasks) for g in self.schedule.producers]
        tasks = tuple(
            Task(
                op, kernel, operands, tile,
                waits=tuple((e, totals[e]) for e in self.schedule.waits[n]),
                signals=tuple(signals[n]),
                reads=tuple(self._region(operands[o], box) for o, box in foot.reads),
                writes=tuple(self._region(operands[o], box) for o, box in foot.writes),
            )
            for n, (op, kernel, operands, tile, foot) in enumerate(self.tasks)
        )  # fmt: skip
        return Program(
            name=graph.name,
            machine=self.machine.name,
            symbols=graph.symbols,
            buffers=tuple(self.buffers),
            kernels=tuple(self.kernels),
            events=tuple(Event(t) for t in totals),
            ops=tuple(self.labels),
            tasks=tasks,
            queues=tuple(tuple(q) for q in self.schedule.queues),
            workspace=workspace,
        )

    def _region(self, buffer: int, box: Box) -> Region:
        key = (buffer, id(box))
        if key not in self._regions:
            self._regions[key] = Region(buffer, box)
        return self._regions[key]


def _label(nest: Nest, node: Node) -> str:
    return " ".join(part for part in (nest.kind.value, node.out.name, node.origin) if part)
