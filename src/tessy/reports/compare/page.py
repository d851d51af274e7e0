"""A comparison as one self-contained HTML page: no script, no network, nothing but the file.

The page may use exactly the style it was built with (its hash stands in the content security
policy). Text of models and users is escaped by the template, and shown instead of obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tessy.answers.references import reference_of
from tessy.core.records import AUTHORS, Failure, Trajectory
from tessy.reports import assets
from tessy.reports.compare.figures import asked, right
from tessy.reports.compare.sections import REASONS, Compared, Section

# Texts beyond this are folded to about as much as can be seen of them at once.
FOLD_CHARS = 1_200
FOLD_LINES = 24


class ComparedExample(NamedTuple):
    """One problem and what each run made of it.

    Attributes:
        rows: A row for each run, in their order; None where it did not ask.
    """

    rows: Sequence[Trajectory | Failure | None]


def build_page(
    runs: Sequence[Compared],
    tables: Sequence[Section],
    examples: Sequence[ComparedExample],
    *,
    common: str,
) -> str:
    """Return the page as text.

    Args:
        runs: The runs.
        tables: What :func:`~tessy.reports.compare.sections.sections` makes of them.
        examples: Problems to show.
        common: A sentence on which problems the runs have in common.
    """
    style = assets.style(assets.asset("tessy.reports.compare", "page.css"))
    return assets.render(
        "tessy.reports.compare",
        style=style,
        common=common,
        runs=runs,
        models=_common_models(runs),
        tables=tables,
        examples=[_example(example, runs) for example in examples],
    )


def _common_models(runs: Sequence[Compared]) -> dict[str, str] | None:
    """Return the models by role, if all runs have the same; else None."""
    by_role = {role: {r.models[role] for r in runs if role in r.models} for role in AUTHORS}
    if any(len(found) > 1 for found in by_role.values()):
        return None
    return {role: found.pop() for role, found in by_role.items() if found}


def _example(example: ComparedExample, runs: Sequence[Compared]) -> dict[str, Any]:
    first = next(row for row in example.rows if row is not None)
    return {
        "id": first.id,
        "turns": [(turn.role, turn.content) for turn in asked(first)],
        "reference": reference_of(first.problem),
        "cards": [
            _card(run.name, row)
            for run, row in zip(runs, example.rows, strict=True)
            if row is not None
        ],
        "missing": [run.name for run, row in zip(runs, example.rows, strict=True) if row is None],
    }


def _card(name: str, row: Trajectory | Failure) -> dict[str, Any]:
    return {
        "run": name,
        "failed": REASONS.get(row.reason, row.reason) if isinstance(row, Failure) else None,
        "detail": row.detail if isinstance(row, Failure) else "",
        "right": right(row) if isinstance(row, Trajectory) else None,
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
