"""Summary of a run, computed from its rows in one pass: the content of summary.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tessy.core.records import AUTHORS, Author, Failure, Trajectory
from tessy.core.statistics import quantile


class Summary:
    """Accumulates rows in any order.

    A key that failed and was finished later (``--retry-failed``) counts as finished. A key with
    several failures counts once, with its last reason.
    """

    def __init__(self) -> None:
        self._finished: set[tuple[str, int]] = set()
        self._reasons: dict[tuple[str, int], str] = {}
        self._kept: Counter[str] = Counter()
        self._drafted: Counter[str] = Counter()
        self._forced: Counter[str] = Counter()
        self._ended_by: Counter[str] = Counter()
        self._answer_by: Counter[str] = Counter()
        self._strategies: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._parts: Counter[str] = Counter()
        self._drafted_in_failures: Counter[str] = Counter()
        self._thinking: list[int] = []
        self._answers: list[int] = []
        self._attempts = 0
        self._mid_word_handovers = 0

    def add(self, row: Trajectory) -> None:
        """Add a finished sample."""
        self._finished.add(row.key)
        tokens = row.tokens
        self._kept.update(student=tokens.student, teacher=tokens.teacher, answer=tokens.answer)
        self._drafted.update(tokens.drafted)
        self._forced.update(row.forced)
        self._mid_word_handovers += row.glued
        self._ended_by[row.ended_by] += 1
        self._answer_by[row.answer_by] += 1
        self._strategies[row.strategy] += 1
        self._thinking.append(tokens.student + tokens.teacher)
        self._answers.append(tokens.answer)
        self._add_cost(row)

    def add_failure(self, row: Failure) -> None:
        """Add a failed sample: its reason and its cost."""
        self._reasons[row.key] = row.reason
        self._drafted_in_failures.update(row.tokens.drafted)
        self._add_cost(row)

    def _add_cost(self, row: Trajectory | Failure) -> None:
        self._attempts += row.attempts
        self._requests.update(row.cost.requests)
        for part, seconds in row.cost.seconds.items():
            # Counter supports floats, but its type stubs do not.
            self._parts[part] += seconds  # type: ignore[assignment]

    def result(self, seconds: float | None = None) -> dict[str, Any]:
        """Return the content of summary.json, with the run's wall-clock seconds if known.

        Shares are in [0, 1], or None if the whole is 0. ``tokens`` and ``lengths`` cover finished
        samples. ``requests``, ``attempts`` and ``seconds.parts`` (summed over concurrent samples)
        cover all rows. ``tokens.drafted_in_failures`` covers failures.
        """
        failed = Counter(
            reason for key, reason in self._reasons.items() if key not in self._finished
        )
        return {
            "samples": {
                "finished": len(self._finished),
                "failed": failed.total(),
                "attempts": self._attempts,
            },
            "strategies": dict(self._strategies.most_common()),
            "failures": dict(failed.most_common()),
            "tokens": self._token_counts(),
            "forced": by_author(self._forced),
            "glued": self._mid_word_handovers,
            "ended_by": by_author(self._ended_by),
            "answer_by": by_author(self._answer_by),
            "lengths": {
                "thinking": _distribution(self._thinking),
                "answer": _distribution(self._answers),
            },
            "requests": by_author(self._requests),
            "seconds": {
                "wall": None if seconds is None else round(seconds, 3),
                "parts": {part: round(value, 3) for part, value in sorted(self._parts.items())},
            },
        }

    def _token_counts(self) -> dict[str, Any]:
        thinking = sum(self._thinking)
        return {
            **{part: self._kept[part] for part in (*AUTHORS, "answer")},
            "share": {author: share(self._kept[author], thinking) for author in AUTHORS},
            "drafted": by_author(self._drafted),
            "rolled_back_share": {
                author: rolled_back(self._kept[author], self._drafted[author]) for author in AUTHORS
            },
            "drafted_in_failures": by_author(self._drafted_in_failures),
        }


def summarize(
    trajectories: Iterable[Trajectory],
    failures: Iterable[Failure],
    seconds: float | None = None,
) -> dict[str, Any]:
    """Summarize the rows of a run; see :meth:`Summary.result`."""
    summary = Summary()
    for trajectory in trajectories:
        summary.add(trajectory)
    for failure in failures:
        summary.add_failure(failure)
    return summary.result(seconds)


def wall_seconds(summary: Path) -> float:
    """Return the wall-clock seconds of all sessions that left a summary; 0 without one."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or not one of ours
        return float(json.loads(summary.read_bytes())["seconds"]["wall"])
    return 0.0


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
