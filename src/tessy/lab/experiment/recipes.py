"""Recipes of training data, each from the same problems (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Synthesized:
    """Data of `tessy synthesize`; ``trained``: with trained predictors, else with the lexicon."""

    strategy: str
    trained: bool = True
    options: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mixed:
    """Data of `tessy mix` of two recipes, 1:1."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Correct:
    """Data of `tessy filter` of another recipe: the rows whose answers match the reference."""

    source: str


@dataclass(frozen=True, slots=True)
class Written:
    """Correct traces by the task generator, without a model.

    Attributes:
        distance: Probability that a phrase has the teacher's style instead of the student's.
        answer: The same of the answer; None: ``distance``.
    """

    distance: float
    answer: float | None = None


@dataclass(frozen=True, slots=True)
class Reauthored:
    """Rows of another recipe, whose style is attributed to the student by a rule.

    A loss by author then excludes style or capability, whichever model wrote it.
    """

    source: str


Recipe = Synthesized | Mixed | Correct | Written | Reauthored

# Rows that are restyled, and whose problems and format written traces have.
BASE = "teacher-only"
RESTYLE = "restyle"

RECIPES: dict[str, Recipe] = {
    "student-only": Synthesized("student-only"),
    BASE: Synthesized("teacher-only"),
    "teacher-only-system-prompt": Synthesized(
        "teacher-only",
        options={"system_prompt": "Think like a careful student, in your own words."},
    ),
    "teacher-mix": Mixed(BASE, "student-only"),
    "teacher-think": Synthesized("teacher-think"),
    "teacher-answer": Synthesized("teacher-answer"),
    "teacher-score": Synthesized("teacher-score", options={"score_by": "answer"}),
    "teacher-score-correct": Correct("teacher-score"),
    "teacher-reference": Synthesized("teacher-reference"),
    "tessy": Synthesized("tessy"),
    "tessy-oracle": Synthesized("tessy", trained=False),
    "tessy-teacher-answers": Synthesized("tessy", options={"answer_by": "teacher"}),
    **{
        f"restyle-{count}": Synthesized(RESTYLE, trained=False, options={"candidates": count})
        for count in (1, 4, 16)
    },
    **{f"distance-{d:g}": Written(d) for d in (0.0, 0.25, 0.5, 0.75, 1.0)},
    "distance-0-teacher-answers": Written(0.0, answer=1.0),
    "distance-1-student-answers": Written(1.0, answer=0.0),
    "teacher-only-by-class": Reauthored(BASE),
}


def sources(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the recipes whose data a recipe reads."""
    match recipe:
        case Mixed(first, second):
            return (first, second)
        case Correct(source) | Reauthored(source):
            return (source,)
        case Written() | Synthesized("restyle"):
            return (BASE,)
        case _:
            return ()
