"""Mutants: every harmful one is refused, every benign one accepted. The table of kill rates is part of the output."""

import json
import random
import sys
import zlib

import pytest

from onelaunch.check import check
from onelaunch.errors import CheckError
from tests import programs
from tests.check import mutate
from tests.check import oracle
from tests.check import scheduled
from tests.check.random_programs import random_program

EACH = 4  # mutants of one class of one program
BENIGN_EACH = 3

CORPUS = {
    **programs.SMALL,
    "mlp-wide": (lambda: programs.mlp(workers=5, t=3, h=12, f=20), dict),
    "chain-long": (lambda: programs.chain(workers=3, length=7), dict),
    "scheduled-block": (scheduled.block, dict),
    "scheduled-attend": (scheduled.attend, dict),
    **{f"random{seed}": (lambda seed=seed: random_program(seed), dict) for seed in (0, 3, 5, 9, 11, 14)},
}


def refused(program):
    try:
        check(program)
    except CheckError:
        return True
    return False


def race(mutant):
    """What the oracle of orders says of the declared regions, where the mutant has a form at all."""
    try:
        found = oracle.races(mutant)
    except (IndexError, ValueError):
        return "malformed"
    return f"tasks {found[0]} run in either order" if found else ""


COLUMNS = ("harmful", "refused", "shown", "equivalent", "strict")


def report(request, *lines):
    """Print past the capture, so that the numbers are in every test log."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", *lines, sep="\n", file=sys.stderr)


@pytest.fixture(scope="module")
def table(request):
    rows = {}
    yield rows
    total = {key: sum(r[key] for r in rows.values()) for key in COLUMNS}
    lines = [f"{'mutants, by class':20}" + "".join(f"{c:>12}" for c in (*COLUMNS, "kill rate"))]
    for name, r in [*sorted(rows.items()), ("total", total)]:
        rate = f"{100 * r['refused'] / max(r['harmful'], 1):.1f}%"
        lines.append(f"{name:20}" + "".join(f"{v:>12}" for v in (*(r[c] for c in COLUMNS), rate)))
    report(request, *lines, json.dumps({"mutants": rows, "total": total}))
    if len(rows) == len(mutate.HARMFUL):
        assert total["harmful"] >= 1000


@pytest.fixture(scope="module")
def corpus():
    made = {}
    for name, (make, given) in CORPUS.items():
        program = oracle.minimal(make())
        made[name] = program, given(), oracle.Witness(program, given())
    return made


@pytest.mark.parametrize("kind", mutate.HARMFUL)
def test_harmful_mutants_are_refused(kind, corpus, table):
    """harmful: shown by a run, by the oracle of orders, or by breaking a rule no run can show.

    equivalent: accepted, and no run and no order shows harm. strict: refused, though nothing shows harm.
    """
    row = table.setdefault(kind, dict.fromkeys(COLUMNS, 0))
    survivors = []
    for name, (program, _, witness) in corpus.items():
        rng = random.Random(zlib.crc32(f"{kind} {name}".encode()))
        mutants = list(mutate.HARMFUL[kind](program, rng))
        for number, mutant in enumerate(rng.sample(mutants, min(EACH, len(mutants)))):
            no = refused(mutant)
            run = "" if kind in mutate.RULES and no else witness.harm(mutant, thorough=not no)
            harm = run or race(mutant) or ("rule" if kind in mutate.RULES else "")
            row["harmful"] += bool(harm)
            row["shown"] += bool(run)
            row["refused"] += bool(harm and no)
            row["equivalent"] += not harm and not no
            row["strict"] += bool(no and not harm)
            if harm and not no:
                survivors.append((name, number, harm))
    assert not survivors


def test_benign_mutants_are_accepted(corpus, request):
    counts = {}
    for kind, mutator in mutate.BENIGN.items():
        for name, (program, _, witness) in corpus.items():
            rng = random.Random(zlib.crc32(f"{kind} {name}".encode()))
            for mutant in list(mutator(program, rng))[:BENIGN_EACH]:
                check(mutant)
                assert not race(mutant), (kind, name)
                if kind in ("renumbered tasks", "spread buffers", "swapped buffers"):
                    assert not witness.harm(mutant, thorough=False), (kind, name)
                counts[kind] = counts.get(kind, 0) + 1
    report(request, json.dumps({"benign": counts, "accepted": sum(counts.values())}))
    assert sum(counts.values()) >= 200
