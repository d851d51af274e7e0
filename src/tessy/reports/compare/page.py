"""Self-contained HTML page of a comparison, without scripts and network access.

The template escapes text of models and users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tessy.answers.references import reference_of
from tessy.core.errors import reason_label
from tessy.core.records import AUTHORS, Evaluation, Failure, Trajectory
from tessy.reports import assets
from tessy.reports.compare.evaluated_run import EvaluatedRun
from tessy.reports.compare.figures import answered_correctly, problem_messages
from tessy.reports.compare.sections import ComparedRun, Section

# Longer texts are collapsed.
FOLD_CHARS = 1_200
FOLD_LINES = 24


# A sample of each run for one problem; None if the run does not have the problem.
Example = Sequence[Trajectory | Evaluation | Failure | None]


def build_page(
    runs: Sequence[ComparedRun] | Sequence[EvaluatedRun],
    tables: Sequence[Section],
    examples: Sequence[Example],
    *,
    overview: str,
) -> str:
    """Return the HTML of the page; ``overview`` describes the runs and their problems."""
    compared = [run for run in runs if isinstance(run, ComparedRun)]
    return assets.render(
        "tessy.reports.compare",
        overview=overview,
        runs=runs,
        evaluations=not compared,
        models=_common_models(compared),
        tables=tables,
        examples=[_example(example, [run.name for run in runs]) for example in examples],
    )


def _common_models(runs: Sequence[ComparedRun]) -> dict[str, str] | None:
    """Return the models by role; None if the runs have different ones."""
    by_role = {role: {r.models[role] for r in runs if role in r.models} for role in AUTHORS}
    if any(len(found) > 1 for found in by_role.values()):
        return None
    return {role: found.pop() for role, found in by_role.items() if found}


def _example(example: Example, names: Sequence[str]) -> dict[str, Any]:
    first = next(row for row in example if row is not None)
    rows = list(zip(names, example, strict=True))
    return {
        "id": first.id,
        "turns": [(turn.role, turn.content) for turn in problem_messages(first)],
        "reference": (
            (first.reference or None)  # programs have none
            if isinstance(first, Evaluation)
            else reference_of(first.problem)
        ),
        "cards": [_card(name, row) for name, row in rows if row is not None],
        "missing": [name for name, row in rows if row is None],
    }


def _badge(row: Trajectory | Evaluation | Failure) -> tuple[str, str] | None:
    """Return the result of a row, and ``good`` or ``bad``."""
    if isinstance(row, Failure):
        return f"failed: {reason_label(row.reason)}", "bad"
    if isinstance(row, Evaluation):
        reason = f": {reason_label(row.reason)}" if row.reason else ""
        good = "good" if row.outcome == "correct" else "bad"
        return row.outcome.replace("_", " ") + reason, good
    correct = answered_correctly(row)
    if correct is None:
        return None
    return ("correct", "good") if correct else ("wrong", "bad")


def _card(name: str, row: Trajectory | Evaluation | Failure) -> dict[str, Any]:
    return {
        "run": name,
        "badge": _badge(row),
        "failed": isinstance(row, Failure),
        "detail": "" if isinstance(row, Trajectory) else row.detail,
        "scores": ["none" if score is None else f"{score:g}" for score in row.scores],
        "shown": row.reference_answer,
        "pieces": [(span.author, row.thinking[span.start : span.end]) for span in row.spans],
        "thinking_tokens": row.tokens.student + row.tokens.teacher,
        "folded": _is_long(row.thinking),
        "answer": row.answer,
        "answer_by": row.answer_by,
        "answer_tokens": row.tokens.answer,
        "answer_folded": _is_long(row.answer),
    }


def _is_long(text: str) -> bool:
    return len(text) > FOLD_CHARS or text.count("\n") > FOLD_LINES
