"""The table of two vLLM servers: one line a figure; see ``benchmarks.vllm_serve`` and ``benchmarks.tables``."""

from __future__ import annotations

from typing import Any

COLUMNS = ("part", "", "ours", "vLLM's", "ratio", "bar met")
FIGURES = (("first_ms", "ms to the first token"), ("token_ms", "ms from token to token"))


def markdown(result: dict[str, Any]) -> str:
    """The table, the endurance, and what it ran on."""
    parts = result["parts"]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    lines += [_line(row) for row in _startup(parts.get("startup", {}))]
    for part in ("load", "burst"):
        lines += [_line(row) for row in _times(part, parts.get(part))]
    lines += ["", *_endurance(parts.get("endurance"))]
    lines += dict.fromkeys(note for part, found in parts.items() for note in _notes(part, found))
    run = result["run"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    modified = " with changes" if run["modified"] else ""
    layers = "" if result["layers"] is None else f", {result['layers']} layers"
    lines += [
        f"{result['model']}{layers}, {result['dtype']}; {run['machine']['gpu']}, driver {run['machine']['driver']}; "
        f"vLLM {result['vllm']}, {versions}.",
        f"Commit {run['commit']}{modified}, {run['date']}: "
        + ", ".join(f"`{command}`" for command in dict.fromkeys(part["command"] for part in parts.values())) + ".",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _notes(part: str, found: dict[str, Any]) -> list[str]:
    """What a part did not do, and what was launched."""
    notes = [f"{part}: {found['unfinished']}."] if found["unfinished"] else []
    for name in ("onelaunch", "stock"):
        failures = found.get(name, {}).get("failures", [])
        notes += [f"{part}, {name}, unanswered: {failure}" for failure in failures]
    if (launched := found["launches"].get("onelaunch")) is not None:
        sizes = ", ".join(map(str, launched["sizes"])) or "none"
        refused = "".join(f"; refused: {reason}" for reason in launched["refusals"])
        notes.append(f"Numbers of sequences that have a launch: {sizes}{refused}.")
    return notes


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(part: str, figure: str, values: list[float | None], bar: str = "–") -> list[str]:
    """``values``: ours, stock's and the ratio."""
    return [part, figure, *("–" if value is None else f"{value:.2f}" for value in values), bar]


def _startup(found: dict[str, Any]) -> list[list[str]]:
    rows = []
    for kind in ("cold", "cached"):
        both = [found.get(name, {}).get(kind, {}) for name in ("onelaunch", "stock")]
        ours, stock = (one.get("first_s") for one in both)
        if ours or stock:
            together = ", both at once" if any(one.get("together") for one in both) else ""
            ratio = stock / ours if ours and stock else None
            rows.append(_row("startup", f"s to the first answer, {kind}{together}", [ours, stock, ratio]))
    return rows


def _times(part: str, found: dict[str, Any] | None) -> list[list[str]]:
    if found is None:
        return []
    asked, ratio = found["asked"], found.get("ratio", {})
    bar = {None: "–", True: "yes", False: "NO"}[found.get("met")]
    what = f"{asked['burst']} at once, {asked['rounds']} times"
    if part == "load":
        what = f"{asked['load']} requests, {asked['rate']:g} a second"
    ours, stock = (found.get(name, {}) for name in ("onelaunch", "stock"))
    rows = []
    for name, words in FIGURES:
        judged = bar if name == "first_ms" else "–"
        for i, share in enumerate(("median", "99 %")):
            values: list[float | None] = [one[name][i] if one.get(name) else None for one in (ours, stock, ratio)]
            rows.append(_row(f"{part}, {what}", f"{words}, {share}", values, judged))
    rates: list[float | None] = [one.get("tokens_s") for one in (ours, stock, ratio)]
    return [*rows, _row(f"{part}, {what}", "tokens a second", rates, bar)]


def _endurance(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    lines = []
    for name, whose in (("onelaunch", "with us"), ("stock", "without")):
        if (one := found.get(name)) is not None:
            memory = "; ".join(
                f"{words} {' → '.join(f'{m:.0f}' for m in one['memory'][kind])} MiB"
                for kind, words in (("gpu_mib", "GPU"), ("host_mib", "host"))
                if one["memory"][kind][0] is not None
            )
            flat = {None: "", True: ", flat", False: ", NOT FLAT"}[one["flat"]]
            lines.append(
                f"Endurance {whose}: {one['answered']} of {one['of']} requests answered, up to {one['most']} at once, "
                f"in {one['seconds']:.1f} s; memory before, between and after: {memory}{flat}."
            )
    if (same := found.get("agreement")) is not None:
        gap = "" if same["gap"] is None else f"; largest gap where they part {same['gap']:.3f}"
        lines.append(
            f"Texts equal to those of the same requests by themselves on stock: {same['equal']} of {same['of']}, of "
            f"stock's own beside others {same['stock_equal']}{gap}; noise of stock {same['noise']:.3f}; right: "
            f"{'yes' if same['right'] else 'NO'}."
        )
    return lines
