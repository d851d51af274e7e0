"""Summary of a run, computed from its rows in one pass: the content of summary.json."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tessy.core.records import (
    AUTHORS,
    Author,
    Evaluation,
    Failure,
    Restyling,
    Trajectory,
)
from tessy.core.statistics import quantile


class Summary:
    """Accumulates rows in any order.

    A key that failed and was finished later (``--retry-failed``) counts as finished. A key with
    several failures counts once, with its last reason. Costs are those of all rows.
    """

    def __init__(self) -> None:
        self._finished: set[tuple[str, int]] = set()
        self._reasons: dict[tuple[str, int], str] = {}
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._thinking: list[int] = []
        self._answers: list[int] = []
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._mid_word_handovers = 0
        self._effective = 0.0  # sample sizes of restyled places

    def add(self, row: Trajectory | Evaluation) -> None:
        """Add a finished sample."""
        self._finished.add(row.key)
        tokens = row.tokens
        for part in (*AUTHORS, "answer"):
            self._counts["kept"][part] += getattr(tokens, part)
        self._counts["drafted"].update(tokens.drafted)
        self._counts["forced"].update(row.forced)
        self._mid_word_handovers += row.glued
        if row.restyle is not None:
            self._add_restyling(row.restyle)
        if isinstance(row, Evaluation):
            self._counts["outcomes"][row.outcome] += 1
        else:
            self._counts["ended_by"][row.ended_by] += 1
        self._counts["answer_by"][row.answer_by] += 1
        self._counts["strategies"][row.strategy] += 1
        self._thinking.append(tokens.student + tokens.teacher)
        self._answers.append(tokens.answer)
        self._add_cost(row)

    def _add_restyling(self, restyle: Restyling) -> None:
        counts = self._counts["restyle"]
        counts["places"] += len(restyle.draws)
        counts["candidates"] += sum(restyle.draws)
        for name in ("empty", "unfit", "end_draws", "scored_tokens"):
            counts[name] += getattr(restyle, name)
        self._effective += sum(restyle.effective)

    def add_failure(self, row: Failure) -> None:
        """Add a failed sample: its reason and its cost."""
        self._reasons[row.key] = row.reason
        self.add_superseded(row)

    def add_superseded(self, row: Failure) -> None:
        """Add only the cost of a failure that a later row of its key has replaced."""
        self._counts["drafted_in_failures"].update(row.tokens.drafted)
        self._add_cost(row)

    def _add_cost(self, row: Trajectory | Evaluation | Failure) -> None:
        # A later row counts the attempts of the earlier ones, too.
        self._attempts[row.key] = max(self._attempts[row.key], row.attempts)
        self._counts["requests"].update(row.cost.requests)
        self._counts["unseen"].update(row.cost.unseen)
        self._counts["generated"].update(generated_tokens(row))
        for part, seconds in row.cost.seconds.items():
            # Counter supports floats, but its type stubs do not.
            self._counts["parts"][part] += seconds  # type: ignore[assignment]

    def result(self, seconds: float | None = None) -> dict[str, Any]:
        """Return the content of summary.json, with the run's wall-clock seconds if known.

        Shares are in [0, 1], or None if the whole is 0. ``tokens`` and ``lengths`` cover finished
        samples. ``requests``, ``attempts``, ``tokens.generated`` (``tokens.unseen`` of them as in
        :class:`~tessy.core.records.Cost`) and ``seconds.parts`` (summed over concurrent samples)
        cover all rows. ``tokens.drafted_in_failures`` covers failures. Only an evaluation has
        ``outcomes``, and only a run of strategy ``restyle`` has ``restyle``.
        """
        counts = self._counts
        failed = Counter(
            reason for key, reason in self._reasons.items() if key not in self._finished
        )
        return {
            "samples": {
                "finished": len(self._finished),
                "failed": failed.total(),
                "attempts": self._attempts.total(),
            },
            "strategies": dict(counts["strategies"].most_common()),
            "failures": dict(failed.most_common()),
            **({"outcomes": dict(counts["outcomes"].most_common())} if counts["outcomes"] else {}),
            **({"restyle": self._restyling()} if "restyle" in counts else {}),
            "tokens": self._token_counts(),
            "forced": by_author(counts["forced"]),
            "glued": self._mid_word_handovers,
            "ended_by": by_author(counts["ended_by"]),
            "answer_by": by_author(counts["answer_by"]),
            "lengths": {
                "thinking": _distribution(self._thinking),
                "answer": _distribution(self._answers),
            },
            "requests": by_author(counts["requests"]),
            "seconds": {
                "wall": None if seconds is None else round(seconds, 3),
                "parts": {part: round(value, 3) for part, value in sorted(counts["parts"].items())},
            },
        }

    def _restyling(self) -> dict[str, Any]:
        counts = self._counts["restyle"]
        names = ("places", "candidates", "empty", "unfit", "end_draws", "scored_tokens")
        effective = self._effective / counts["places"] if counts["places"] else None
        mean = None if effective is None else round(effective, 3)
        return {**{name: counts[name] for name in names}, "effective_mean": mean}

    def _token_counts(self) -> dict[str, Any]:
        kept, drafted = self._counts["kept"], self._counts["drafted"]
        thinking = sum(self._thinking)
        return {
            **{part: kept[part] for part in (*AUTHORS, "answer")},
            "share": {author: share(kept[author], thinking) for author in AUTHORS},
            "drafted": by_author(drafted),
            "rolled_back_share": {
                author: rolled_back(kept[author], drafted[author]) for author in AUTHORS
            },
            "drafted_in_failures": by_author(self._counts["drafted_in_failures"]),
            "generated": by_author(self._counts["generated"]),
            "unseen": by_author(self._counts["unseen"]),
        }


def summarize(
    rows: Iterable[Trajectory | Evaluation],
    failures: Iterable[Failure],
    superseded: Iterable[Failure] = (),
    seconds: float | None = None,
) -> dict[str, Any]:
    """Summarize the rows of a run; see :meth:`Summary.result`."""
    summary = Summary()
    for row in rows:
        summary.add(row)
    for failure in failures:
        summary.add_failure(failure)
    for failure in superseded:
        summary.add_superseded(failure)
    return summary.result(seconds)


def wall_seconds(summary: Path) -> float:
    """Return the wall-clock seconds of all sessions that left a summary; 0 without one."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or not one of ours
        return float(json.loads(summary.read_bytes())["seconds"]["wall"])
    return 0.0


def generated_tokens(row: Trajectory | Evaluation | Failure) -> dict[Author, int]:
    """Return the tokens that each model generated for a row, kept or not, in its own tokens."""
    answer = row.answer_by, row.tokens.answer
    return add_generated(
        row.tokens.drafted, row.cost.unseen, answer, restyled=row.restyle is not None
    )


def add_generated(
    drafted: Mapping[Author, int],
    unseen: Mapping[Author, int],
    answer: tuple[Author, int],
    *,
    restyled: bool,
) -> dict[Author, int]:
    """Return the generated tokens by author from a row's counts, and its answer's author and count.

    A ``restyled`` row with an answer by the teacher has that of its trace, which was not generated.
    """
    generated: dict[Author, int] = {a: drafted[a] + unseen.get(a, 0) for a in AUTHORS}
    author, tokens = answer
    if not restyled or author == "student":
        generated[author] += tokens
    return generated


def share(part: int, whole: int) -> float | None:
    """Return ``part / whole``, rounded to four digits; None if ``whole`` is 0."""
    return round(part / whole, 4) if whole else None


def rolled_back(kept: int, drafted: int) -> float | None:
    """Return the share of drafted tokens that were not kept; None without drafts.

    Approximate for the teacher: drafted tokens are its own, kept tokens are the student's. A
    negative share is reported as 0.
    """
    return round(max(0.0, 1 - kept / drafted), 4) if drafted else None


def by_author(counts: Mapping[Any, int]) -> dict[Author, int]:
    """Return both authors' counts, 0 where there are none."""
    return {author: counts.get(author, 0) for author in AUTHORS}


def _distribution(values: Iterable[int]) -> dict[str, float | int | None]:
    """Return mean, median, 80th percentile and maximum, in tokens; None without values."""
    ordered = sorted(values)
    if not ordered:
        return {"mean": None, "median": None, "p80": None, "max": None}
    return {
        "mean": round(sum(ordered) / len(ordered), 1),
        "median": quantile(ordered, 0.5),
        "p80": quantile(ordered, 0.8),
        "max": ordered[-1],
    }
