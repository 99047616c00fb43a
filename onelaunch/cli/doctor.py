"""``onelaunch doctor``: what of this machine works with onelaunch, and what does not, and why."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import dataclass
from functools import partial

from onelaunch.cli import probes
from onelaunch.cli import probes_vllm
from onelaunch.cli import trial
from onelaunch.cli.finding import Finding
from onelaunch.cli.finding import State
from onelaunch.cli.trial import Trial
from onelaunch.errors import CompilerError

COMPILED = ("cpu", "cuda")
MARKS = {State.OK: "✓", State.ABSENT: "–", State.BROKEN: "✗"}
COLOURS = {State.OK: "green", State.ABSENT: "dim", State.BROKEN: "red"}
FAILED = 1  # exit status: no compiled target works, or, where vLLM is asked about, it cannot use one


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found. ``auto``: what ``target="auto"`` stands for, by the kind of memory that arguments are in."""

    findings: tuple[Finding, ...]
    targets: dict[str, Trial]
    auto: dict[str, str]

    @property
    def works(self) -> bool:
        """Whether at least one compiled target does."""
        return any(self.targets[name].reason is None for name in COMPILED)

    def rows(self) -> Iterator[tuple[State, str, str]]:
        """State, name and text of every line that people see."""
        yield from ((f.state, f.name, f.text) for f in self.findings)
        for name, tried in self.targets.items():
            if tried.reason is None:
                built = f"a tiny program was built in {tried.build_seconds or 0:.1f} s and gave the right result"
                yield State.OK, f"target {name}", f"works: {built}"
            else:
                wanted = name != "cuda" or any(f.name == "gpu" and f.state is not State.ABSENT for f in self.findings)
                yield State.BROKEN if wanted else State.ABSENT, f"target {name}", tried.reason
        for kind, name in self.auto.items():
            yield State.OK, "target auto", f"{kind} tensors: {name}"

    def as_json(self) -> dict[str, object]:
        """The same as plain data."""
        return {
            "works": self.works,
            "targets": {name: {"works": t.reason is None, **asdict(t)} for name, t in self.targets.items()},
            "auto": self.auto,
            "findings": {f.name: f.as_json() for f in self.findings},
        }


def run(as_json: bool, vllm: bool = False) -> int:
    """Look, print, and return the exit status: 0 if a compiled target works (and vLLM finds it), otherwise 1."""
    if sys.stderr.isatty():
        print("looking, and compiling a tiny program ...", file=sys.stderr)
    found = diagnose(vllm)
    if as_json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        show(found)
    ready = not vllm or all(f.state is State.OK for f in found.findings if f.name.startswith("vllm"))
    return 0 if found.works and ready else FAILED


def diagnose(vllm: bool = False) -> Diagnosis:
    """Every probe and a trial of every target; ``vllm``: those of vLLM too."""
    with _quiet():
        driver = probes.guarded("driver", probes.driver)
        compiler = probes.guarded("c++", probes.compiler)
        findings = [
            probes.guarded("onelaunch", probes.itself),
            probes.guarded("torch", probes.torch),
            probes.guarded("transformers", partial(probes.package, "transformers", "models")),
            probes.guarded("rich", partial(probes.package, "rich", "cli")),
            driver,
            probes.guarded("gpu", partial(probes.gpu, driver)),
            probes.guarded("nvrtc", probes.nvrtc),
            compiler,
            probes.guarded("cpu", probes.cpu),
            probes.guarded("cache", probes.cache),
            probes.guarded("backends", probes.backends),
        ]
        if vllm:
            findings.append(probes.guarded("vllm", probes_vllm.version))
            findings.append(probes.guarded("vllm plugin", probes_vllm.plugin))
            if findings[-2].state is not State.ABSENT:
                findings.append(probes.guarded("vllm seams", probes_vllm.holds))
        targets = {
            "cpu": trial.attempt_apart("cpu") if compiler.state is State.OK else Trial(compiler.text),
            "cuda": trial.attempt_apart("cuda") if probes.has_gpu(driver) else Trial("no NVIDIA GPU"),
            "reference": trial.attempt("reference"),
        }
        return Diagnosis(tuple(findings), targets, _auto(driver))


def _auto(driver: Finding) -> dict[str, str]:
    try:
        from onelaunch.runtime.targets import reason_against_cuda
        from onelaunch.runtime.targets import select

        found = {"CPU": select("auto").name}
        if probes.has_gpu(driver):
            reason = reason_against_cuda()
            found["CUDA"] = "cuda" if reason is None else f"torch, not compiled ({reason})"
    except (ImportError, OSError, CompilerError) as error:
        return {"CPU": f"nothing ({error})"}
    return found


def show(found: Diagnosis) -> None:
    """A table at a terminal, plain lines elsewhere: what is piped is not broken to a terminal's width."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None, padding=(0, 1))
        for state, name, text in found.rows():
            table.add_row(Text(MARKS[state], COLOURS[state]), Text(name, "bold"), Text(text, overflow="fold"))
        Console(highlight=False).print(table)
    else:
        width = max(len(name) for _, name, _ in found.rows())
        for state, name, text in found.rows():
            print(f"{state.value:<6}  {name:<{width}}  {text}")
    if not found.works:
        left = [name for name, tried in found.targets.items() if tried.reason is None]
        print(f"no compiled target works; {', '.join(left) or 'nothing'} is left")


@contextmanager
def _quiet() -> Iterator[None]:
    """What the package would warn of is in the table."""
    logger = logging.getLogger("onelaunch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
