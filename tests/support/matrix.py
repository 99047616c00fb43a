"""The support matrix: runs every configuration in both forms, and writes docs/support.json and docs/support.md.

    python -m tests.support.matrix                     every model on the reference target
    python -m tests.support.matrix --models Llama OPT  these only; what the file says of others stays
    python -m tests.support.matrix --missing           what the file says nothing of: goes on after an interruption
    python -m tests.support.matrix --render            docs/support.md again, from docs/support.json

Each model runs in a process of its own, so that a crash is one line of the table. The processes are forks of one that
has loaded and warmed everything, which saves most of the time. The file is written after each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.support import judge
from tests.support import steps
from tests.support.configurations import BY_NAME
from tests.support.configurations import DENSE
from tests.support.configurations import EXPERTS
from tests.support.configurations import ODD
from tests.support.configurations import STATES
from tests.support.configurations import VARIANTS
from tests.support.configurations import Configuration

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "support.json"
PAGE = DOCS / "support.md"
FORMS = ("direct", "generate")
PROMPT, BATCH, PADDING = 6, 2, 2
STEPS, FEWER = 12, 4  # fewer for what is neither promised nor has a window or a compressed cache to fill


def measure(configuration: Configuration, form: str, target: str) -> dict[str, Any]:
    """One model in one form: what was compiled, its errors in fp32 and bf16, or why it is not reached."""
    ids = steps.prompt(configuration, BATCH, PROMPT)
    exact_model = configuration.model()
    try:
        eager = _run(configuration, exact_model, form, ids)
        with steps.counted() as counts:
            got = _run(configuration, exact_model, form, ids, target)
        found: dict[str, Any] = {
            "graphs": counts.graphs,
            "launches": counts.launches / got.steps,
            "fallbacks": len(counts.fallbacks),
            "in_torch": None if (outside := judge.in_torch(got)) is None else sum(outside.values()),
            "tasks": counts.tasks,
            "events": counts.events,
            "error_fp32": judge.logits_error(got, eager),
            "cache_fp32": judge.cache_error(got, eager),
            "tokens_equal": torch.equal(got.tokens, eager.tokens),
            "against": judge.one_launch_a_step(counts, got),
        }
        torch._dynamo.reset()
        forced = torch.cat([steps.prompt(configuration, BATCH, 1, seed=2), eager.tokens[:, :-1]], 1)
        exact = _run(configuration, exact_model, form, ids, forced=forced)
        model = configuration.model(torch.bfloat16)
        plain = _run(configuration, model, form, ids, forced=forced)
        ours = _run(configuration, model, form, ids, target, forced)
        found["error_bf16"], found["eager_bf16"] = judge.bf16_errors(ours, plain, exact)
        return found
    except Exception as error:  # noqa: BLE001 -- whatever stops a model is what the table says
        return {"stopped": reason(error)}
    finally:
        torch._dynamo.reset()


def _steps(configuration: Configuration) -> int:
    fills = configuration.slides or configuration.compresses
    return STEPS if configuration.promised or fills else FEWER


def _run(
    configuration: Configuration,
    model: torch.nn.Module,
    form: str,
    ids: torch.Tensor,
    target: str | None = None,
    forced: torch.Tensor | None = None,
) -> steps.Run:
    count = _steps(configuration)
    if form == "generate":
        padding = PADDING if configuration.pads else 0
        return steps.generate(
            model, ids, count, target=target, padding=padding, forced=forced, partly=configuration.partly
        )
    compile = None
    if target is not None:
        whole = not (configuration.breaks or configuration.partly)
        compile = steps.compiled(target, whole=whole, partly=configuration.partly)
    return steps.direct(configuration, model, ids, count, compile=compile, forced=forced)


def reason(error: BaseException) -> str:
    """The one line of an error that says what stops a model; local folders are cut from paths."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = [line for line in lines if "cannot be lowered" in line or re.match(r"\w*Error: ", line)]
    line = (named or lines)[0]
    return re.sub(r"/\S*/(?=[\w.]+\.py)", "", line)[:300]


def _warm() -> None:
    """Load what every fork needs. No math thread is started: they would not survive a fork."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    configuration = BY_NAME["Llama"]
    steps.direct(configuration, configuration.model(), torch.zeros(1, 2).long(), 1, compile=steps.compiled("reference"))
    torch._dynamo.reset()


def _child(name: str, form: str, target: str, connection: Any) -> None:
    connection.send(measure(BY_NAME[name], form, target))


def measure_apart(name: str, form: str, target: str) -> dict[str, Any]:
    """``measure`` in a fork."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(name, form, target, theirs))
    child.start()
    theirs.close()
    try:
        found: dict[str, Any] = ours.recv()
    except EOFError:
        found = {"stopped": "the process died"}
    child.join()
    return found


def render(results: dict[str, Any]) -> str:
    """docs/support.md of the results."""
    parts = [_HEAD.format(**results["made"], prompt=PROMPT, steps=STEPS, fewer=FEWER, batch=BATCH, padding=PADDING)]
    promised = [c for c in DENSE if c.promised]
    for title, group in (
        ("Promised", promised),
        ("The other dense models of the census", [c for c in DENSE if not c.promised]),
        ("Odd sizes", list(ODD)),
        ("Other rotary embeddings", list(VARIANTS)),
        ("Mixtures of experts", list(EXPERTS)),
        ("State spaces and hybrids", list(STATES)),
    ):
        parts.append(f"## {title}\n\n{_COLUMNS}\n" + "\n".join(_rows(c, results["models"]) for c in group))
    stopped = [line for c in BY_NAME.values() for line in _stops(c, results["models"])]
    parts.append(f"## Not reached, and what stops it\n\n{_REASONS}\n\n" + ("\n".join(stopped) or "Nothing."))
    return "\n\n".join(parts) + "\n"


def against(found: dict[str, Any]) -> list[str]:
    """What of the contract a result does not keep."""
    if "stopped" in found:
        return [found["stopped"]]
    said = list(found["against"])
    if found["error_fp32"] > judge.TOLERANCE:
        said.append(f"fp32 logits are off by {found['error_fp32']:.1e}")
    if found["cache_fp32"] > judge.TOLERANCE:
        said.append(f"the fp32 cache is off by {found['cache_fp32']:.1e}")
    if not found["tokens_equal"]:
        said.append("other greedy tokens than eager")
    if found["error_bf16"] > judge.BF16_RATIO * found["eager_bf16"]:
        said.append(f"bf16 errors are {found['error_bf16'] / found['eager_bf16']:.2f} times those of eager")
    return said


def _stops(configuration: Configuration, models: dict[str, Any]) -> list[str]:
    """A line for each way in which a model falls short; both forms on one line where they do it alike."""
    forms: dict[str, list[str]] = {}
    for form, found in models.get(configuration.name, {}).items():
        if said := against(found):
            forms.setdefault("; ".join(said), []).append(form)
    cause = f". Dynamo breaks at {configuration.breaks}" if configuration.breaks else ""
    return [f"- **{configuration.name}**, {' and '.join(fs)}: {said}{cause}." for said, fs in forms.items()]


_HEAD = """# Support matrix

Decode steps of unmodified transformers models with small random weights, in the two forms in which users meet the
backend: *direct* (`torch.compile(model)` called with a static cache) and *generate* (`model.generate` with
`cache_implementation="static"`). Made by `python -m tests.support.matrix` with torch {torch} and transformers
{transformers} on the {target} target: batch {batch}, a prompt of {prompt} tokens, {steps} steps to a full cache
({fewer} for models that are not promised and have no sliding window and no compressed cache); in the generate form the
last row is padded by {padding} on its left.

- *graphs*: what Dynamo captured, each one program. Models with sliding windows take up to three: their position is a
  Python integer that torch bakes in, then makes a symbol, and the full window is other code.
- *launches*: a step. *fallbacks*: ops of the graphs that the backend left to torch. *in torch*: operators that torch
  ran in the last step, by its own count, besides making the outputs; code between graphs has some. ?: that step
  compiled.
- *tasks*: of the program that ran last.
- *fp32*: greatest relative error of any step's logits against eager; at most 1e-4 is promised. *tokens*: greedy tokens
  equal eager's.
- *bf16*: relative error against fp32 over all teacher-forced steps, and its ratio to eager bf16's own; at most 1.5 is
  promised."""
_REASONS = "Ops in torch without a further reason have no lowering rule."
_COLUMNS = """| model | form | graphs | launches | fallbacks | in torch | tasks | fp32 | tokens | bf16 | of eager's |
|---|---|---|---|---|---|---|---|---|---|---|"""


def _rows(configuration: Configuration, models: dict[str, Any]) -> str:
    return "\n".join(_row(configuration.name, form, models.get(configuration.name, {}).get(form)) for form in FORMS)


def _row(name: str, form: str, found: dict[str, Any] | None) -> str:
    if found is None or "stopped" in found:
        word = "untested" if found is None else "not reached"
        return f"| {name} | {form} | {word} | | | | | | | | |"
    ratio = found["error_bf16"] / found["eager_bf16"]
    return (
        f"| {name} | {form} | {found['graphs']} | {found['launches']:g} | {found['fallbacks']} "
        f"| {'?' if found['in_torch'] is None else found['in_torch']} | {found['tasks']} "
        f"| {found['error_fp32']:.1e} | {'equal' if found['tokens_equal'] else '**differ**'} "
        f"| {found['error_bf16']:.1e} | {ratio:.2f} |"
    )


def stored() -> dict[str, Any]:
    """What docs/support.json holds."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"made": {}, "models": {}}
    return found


def _store(results: dict[str, Any]) -> None:
    """Whole or not at all, so that an interruption loses nothing."""
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    new.replace(RESULTS)


def _wanted(chosen: argparse.Namespace, models: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [(name, form) for name in chosen.models for form in chosen.forms]
    return [(n, f) for n, f in pairs if not (chosen.missing and f in models.get(n, {}))]


def main(arguments: list[str] | None = None) -> int:
    """Measure, store, render; returns the exit status: 1 if a promised model is not reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.matrix", description="Make the support matrix.")
    parser.add_argument("--models", nargs="+", choices=list(BY_NAME), default=list(BY_NAME), metavar="MODEL")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--target", choices=("reference", "cpu"), default="reference")
    parser.add_argument("--missing", action="store_true", help="measure only what has no result yet")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    chosen = parser.parse_args(arguments)
    results = stored()
    if not chosen.render:
        made = {
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "target": chosen.target,
        }
        if results["made"] != made:  # one heading stands over the whole table
            results = {"made": made, "models": {}}
        _warm()
        for name, form in _wanted(chosen, results["models"]):
            found = measure_apart(name, form, chosen.target)
            results["models"].setdefault(name, {})[form] = found
            print(f"{name}, {form}: {found.get('stopped') or _row(name, form, found)}", flush=True)
            _store(results)
    PAGE.write_text(render(results))
    models = results["models"]
    broken = [c.name for c in DENSE if c.promised and any(against(found) for found in models.get(c.name, {}).values())]
    if broken:
        print(f"promised but not reached: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
