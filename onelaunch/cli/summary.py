"""The short table at the end of a generation, and the same as JSON."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

from onelaunch.cli.cached_start import CachedStart
from onelaunch.cli.programs import ProgramUse
from onelaunch.models.agreement import Agreement
from onelaunch.models.generation import Generation
from onelaunch.models.loaded import LoadedModel
from onelaunch.models.plain import PlainGeneration

UNKNOWN = "–"
SHOWN = 5  # operators by name, and kinds of fallback


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same generation through plain transformers, and whether it says the same.

    Attributes:
        forced: how many of our greedy tokens are the plain model's choice too, given the same tokens before; None if
            they were sampled.
    """

    plain: PlainGeneration
    agreement: Agreement
    forced: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything there is to say about one generation."""

    model: LoadedModel
    prompts: list[list[int]]
    generation: Generation
    programs: ProgramUse | None
    cached_start: CachedStart | None
    comparison: Comparison | None

    @property
    def launches_per_token(self) -> float | None:
        """Launches over decode steps: a step makes one token of every row."""
        if self.programs is None or not self.generation.steps:
            return None
        return self.programs.launches / self.generation.steps

    @property
    def ratio(self) -> float | None:
        """Our decode speed over that of plain transformers."""
        ours, theirs = self.generation.tokens_per_second, self._plain_speed
        return ours / theirs if ours and theirs else None

    @property
    def cold_seconds(self) -> float | None:
        """Compilation in this run, if nothing came from the disk cache."""
        return None if self.programs is None or self.programs.cached else self.programs.compile_seconds

    @property
    def cached_seconds(self) -> float | None:
        """Compilation with a warm disk cache: in this run, or in the second process that was started to measure it."""
        if self.programs is not None and self.programs.cached:
            return self.programs.compile_seconds
        return self.cached_start.compile_seconds if self.cached_start and self.cached_start.cached else None

    @property
    def _plain_speed(self) -> float | None:
        return self.comparison.plain.tokens_per_second if self.comparison else None

    def rows(self) -> list[tuple[str, str]]:
        """The table: label and value."""
        tokens = sum(map(len, self.generation.tokens))
        of_rows = f" in {len(self.prompts)} rows" if len(self.prompts) > 1 else ""
        rows = [
            ("model", f"{self.model.name} ({self.model.weights})"),
            ("tokens", f"{tokens}{of_rows}"),
            ("tokens/s", _number(self.generation.tokens_per_second, 1)),
            ("launches per token", _number(self.launches_per_token, 2)),
            ("torch operators per token, outside", self._operators()),
        ]
        if self.programs is not None:
            rows += [
                ("tasks", f"{self.programs.tasks:,}"),
                ("events", f"{self.programs.events:,}"),
                ("weights per token", f"{self.programs.weight_bytes / 1e6:,.1f} MB"),
                ("compile time, cold", _seconds(self.cold_seconds)),
                ("compile time, cached", self._cached()),
            ]
            rows += [("left to torch", reason) for reason in self.programs.fallbacks[:SHOWN]]
            if len(self.programs.fallbacks) > SHOWN:
                rows.append(("left to torch", f"and {len(self.programs.fallbacks) - SHOWN} more kinds"))
        if self.comparison is not None:
            rows += [
                ("plain transformers, tokens/s", _number(self._plain_speed, 1)),
                ("ratio", UNKNOWN if self.ratio is None else f"{self.ratio:.2f}x"),
                ("tokens agree", str(self.comparison.agreement)),
            ]
            if self.comparison.forced is not None:
                rows.append(("  given the same tokens before", f"{self.comparison.forced} of {tokens}"))
        return rows

    def _cached(self) -> str:
        start = self.cached_start
        if start is not None and not start.cached:
            return f"{UNKNOWN} (a second process compiled again, in {_seconds(start.compile_seconds)})"
        return _seconds(self.cached_seconds)

    def _operators(self) -> str:
        operators = self.generation.operators
        if operators is None:
            return UNKNOWN
        names = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{count} {name.removeprefix('aten.')}" for name, count in names[:SHOWN])
        return f"{sum(operators.values())} ({shown}{', ...' if len(names) > SHOWN else ''})"

    def as_json(self, texts: list[str]) -> dict[str, Any]:
        """The same as plain data, with the answers; what is unknown is null."""
        generation, programs, comparison = self.generation, self.programs, self.comparison
        return {
            "model": {"name": self.model.name, "path": str(self.model.path), "weights": self.model.weights},
            "answers": [
                {"text": text, "tokens": tokens, "prompt_tokens": len(prompt)}
                for text, tokens, prompt in zip(texts, generation.tokens, self.prompts, strict=True)
            ],
            "tokens": sum(map(len, generation.tokens)),
            "tokens_per_second": generation.tokens_per_second,
            "prefill_seconds": generation.prefill_seconds,
            "decode_steps": generation.steps,
            "launches_per_token": self.launches_per_token,
            "operators_per_token": generation.operators,
            "programs": asdict(programs) if programs else None,
            "compile_seconds": {"cold": self.cold_seconds, "cached": self.cached_seconds},
            "compare": None
            if comparison is None
            else {
                "tokens_per_second": comparison.plain.tokens_per_second,
                "ratio": self.ratio,
                "tokens_agree": comparison.agreement.complete,
                "equal_tokens": comparison.agreement.equal,
                "equal_given_same_tokens": comparison.forced,
                "tokens": comparison.plain.tokens,
            },
        }


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.0f}" if value == int(value) else f"{value:.{digits}f}"


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f} s"
