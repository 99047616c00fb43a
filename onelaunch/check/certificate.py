"""The certificate: what ``check`` has shown of a program, and on which assumptions it rests."""

from __future__ import annotations

import dataclasses

from onelaunch.check.access import Accesses
from onelaunch.check.clock import Clocks
from onelaunch.check.findings import Findings
from onelaunch.check.memory import Memory
from onelaunch.check.overlap import check_overlap
from onelaunch.check.progress import Progress
from onelaunch.check.structure import check_structure
from onelaunch.check.sweep import sweep
from onelaunch.check.tiling import check_tiling
from onelaunch.errors import CheckError
from onelaunch.program.program import Program
from onelaunch.program.program import Role

ASSUMED = (
    "arguments do not overlap each other, nor the workspace (tested when they are bound)",
    "an index that data decides is tested by the target before it is used (IndexError)",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """Counts of what was shown. A program has one only if nothing is held against it."""

    program: str
    ops: int  # each done exactly once by its tasks, conflicting ones in their order
    tasks: int
    workers: int
    events: int
    waits: int
    regions: int  # declared, each holding the footprint of its task and lying inside its buffer
    footprints: int  # distinct tiles analysed
    accesses: int  # to memory that is written, each ordered after every conflicting one
    apart: int  # pairs of workspace buffers that share bytes and whose lives are ordered
    swept: int  # such pairs whose lives interleave, ordered granule by granule
    axioms: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.program}: {self.tasks} tasks do each of {self.ops} ops once, and end in every order on "
            f"{self.workers} workers ({self.events} events, {self.waits} waits); {self.regions} regions hold "
            f"{self.footprints} footprints; {self.accesses} accesses are ordered as the ops are; {self.apart} + "
            f"{self.swept} pairs of buffers share memory in turn; assuming: " + "; ".join(self.axioms)
        )


def check(program: Program) -> Certificate:
    """Prove that ``program`` ends, and with the result of its ops run one after the other.

    It can neither deadlock nor race nor leave its buffers nor read what nobody wrote. Raises CheckError with
    everything found.
    """
    findings = Findings()
    check_structure(program, findings)
    _refuse(program, findings)  # what follows relies on the form
    check_tiling(program, findings)
    run = Progress(program)
    for worker, task, event, value in run.stuck():
        findings.add("deadlock", f"worker {worker} waits forever in task {task} for event {event} to reach {value}")
    memory = Memory(program)
    accesses = Accesses(program, memory, findings)
    if not run.finished:
        _refuse(program, findings)
    clocks = Clocks(program, run.order)
    ordered = 0
    for number, found in accesses.of.items():
        b = program.buffers[number]
        before = b.role not in (Role.WORKSPACE, Role.OUTPUT)
        ordered += sweep(found, memory.extents[number], (before, b.role is Role.OUTPUT), clocks, findings, b.name)
    for number, b in enumerate(program.buffers):
        if b.role is Role.OUTPUT and number not in accesses.of and b.nbytes:
            findings.add("coverage", f"output {b.name} is never written")
    apart, swept = check_overlap(memory, accesses, clocks, findings)
    _refuse(program, findings)
    axioms = tuple(f"non-negative elements of {program.buffers[a.buffer].name} are {a.kind}" for a in program.axioms)
    return Certificate(
        program.name, len(program.ops), len(program.tasks), len(program.queues), len(program.events),
        sum(len(t.waits) for t in program.tasks), accesses.regions, len(accesses.footprints), ordered, apart, swept,
        ASSUMED + axioms,
    )  # fmt: skip


def _refuse(program: Program, findings: Findings) -> None:
    if findings:
        total = sum(findings.counts.values())
        reasons = f"{total} reason{'s' if total > 1 else ''}"
        raise CheckError(f"program {program.name} is refused for {reasons}:\n  {findings.text()}")
