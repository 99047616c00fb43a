"""What the CPU of this host can do: part of a build's identity, because a binary is made for the CPU it is built on."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CGROUPS = (
    ("/sys/fs/cgroup/cpu.max", None),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


@functools.cache
def features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The instruction set extensions of this CPU, by the kernel's names; at least the architecture's own name."""
    found = {platform.machine()}
    try:
        text = cpuinfo.read_text()
    except OSError:
        return frozenset(found)
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            found.update(value.split())
            break
    return frozenset(found)


def cores() -> int:
    """The physical cores that this process may use: its affinity, less hyperthreads, within its cgroup's quota."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {_first_sibling(cpu) for cpu in allowed}
    quota = _quota()
    count = len(siblings) if quota is None else min(len(siblings), max(1, int(quota)))
    return max(count, 1)


def _first_sibling(cpu: int) -> str:
    """A name shared by the hyperthreads of one core."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text().strip()
    except OSError:
        return str(cpu)


def _quota() -> float | None:
    """CPUs' worth of time that the cgroup grants; None: no limit."""
    for limit, period in CGROUPS:
        try:
            words = Path(limit).read_text().split()
            if period is not None:
                words += Path(period).read_text().split()
            if words[0] not in ("max", "-1"):
                return int(words[0]) / int(words[1])
        except (OSError, ValueError, IndexError):
            continue
    return None
