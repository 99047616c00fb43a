"""A benchmark's result: rows of a table, and the JSON file that the documentation's tables are made from."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rounds import Timing
from benchmarks.verdict import Verdict

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One peer. Times in milliseconds; ``ratio`` is its median over ours at the same batch."""

    peer: str
    batch: int
    median_ms: float
    low_ms: float
    high_ms: float
    steps: int
    ratio: float | None
    error: float | None
    error_of_eager: float | None
    same_choice: float | None
    right: bool | None


def make_row(peer: str, batch: int, timing: Timing, ours: Timing | None, verdict: Verdict | None) -> Row:
    """A row from what was measured; a peer without a verdict was not judged."""
    return Row(
        peer=peer,
        batch=batch,
        median_ms=timing.median * 1e3,
        low_ms=timing.percentile(0.1) * 1e3,
        high_ms=timing.percentile(0.9) * 1e3,
        steps=len(timing.seconds),
        ratio=timing.median / ours.median if ours else None,
        error=verdict.error if verdict else None,
        error_of_eager=verdict.of_eager if verdict else None,
        same_choice=verdict.same_choice if verdict else None,
        right=verdict.right if verdict else None,
    )


HEADINGS = ("", "batch", "ms/step", "10–90 %", "of ours", "error", "of eager's", "same choice", "right")


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table, as text, from its JSON form."""

    def show(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return [
        row["peer"],
        str(row["batch"]),
        f"{row['median_ms']:.2f}",
        f"{row['low_ms']:.2f}–{row['high_ms']:.2f}",
        show(row["ratio"], ".2f"),
        show(row["error"], ".1e"),
        show(row["error_of_eager"], ".2f"),
        show(row["same_choice"], ".1%"),
        {None: "–", True: "yes", False: "NO"}[row["right"]],
    ]


def save(name: str, host: dict[str, Any], settings: dict[str, Any], rows: list[Row], more: dict[str, Any]) -> Path:
    """Write ``results/<name>.json``."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    content = {"name": name, **host, "settings": settings, "rows": [asdict(row) for row in rows], **more}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
