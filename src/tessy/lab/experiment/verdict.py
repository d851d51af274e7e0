"""One sentence on the paper's claim, Teacher-Only < student < TESSY, in a run (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from tessy.core.statistics import CrossedEstimate
from tessy.lab.experiment.arms import (
    CROSSED,
    DISTANCES,
    TEACHER_ONLY,
    TESSY,
    UNTRAINED,
    UPPER,
)
from tessy.lab.experiment.design import Setting
from tessy.lab.experiment.problems import TARGET
from tessy.lab.experiment.results import LabResults

Relation = Literal["above", "below", "within noise of"]
Outcome = Literal["held", "did not hold", "undecided"]


class Ordering(NamedTuple):
    """How both arms relate to the untrained student, and to each other, in one setting.

    Scores and differences are of the target task.
    """

    setting: Setting
    teacher_only: Relation
    tessy: Relation
    tessy_to_teacher_only: Relation
    scores: tuple[float, float, float]  # teacher-only, student, tessy
    trainings: int  # of each arm; with one, the intervals are for other questions only

    @property
    def outcome(self) -> Outcome:
        """Whether the student is above teacher-only and below tessy, beyond noise.

        It is undecided if an interval contains 0 and none contradicts.
        """
        if self.teacher_only == "above" or self.tessy == "below":
            return "did not hold"
        decided = self.teacher_only == "below" and self.tessy == "above"
        return "held" if decided else "undecided"


def relation(difference: CrossedEstimate) -> Relation:
    """Return the relation that a difference shows; noise if the interval contains 0."""
    if difference.low <= 0 <= difference.high:
        return "within noise of"
    return "above" if difference.low > 0 else "below"


def orderings(results: LabResults, settings: Sequence[Setting] | None = None) -> list[Ordering]:
    """Return the ordering in each setting; None: by N, for the first epochs and learning rate.

    A setting with unfinished trainings has none: the scores would be of different students.
    """
    found = []
    for setting in results.design.sizes() if settings is None else settings:
        if not all(results.is_complete(arm, setting) for arm in (TEACHER_ONLY, TESSY)):
            continue
        differences = [
            results.difference(*pair, setting, TARGET)
            for pair in ((TEACHER_ONLY, UNTRAINED), (TESSY, UNTRAINED), (TESSY, TEACHER_ONLY))
        ]
        scores = [results.score(arm, setting, TARGET) for arm in (TEACHER_ONLY, UNTRAINED, TESSY)]
        if None in differences or None in scores:
            continue
        first, second, third = (relation(one) for one in differences if one is not None)
        low, middle, high = (score.value for score in scores if score is not None)
        runs = min(len(results.all_trained(arm, setting)) for arm in (TEACHER_ONLY, TESSY))
        found.append(Ordering(setting, first, second, third, (low, middle, high), runs))
    return found


# Correct traces by the style of thinking and answer.
_PARTS = {
    UPPER: "all in the student's style",
    CROSSED[0]: "only the answers in the teacher's",
    CROSSED[1]: "only the thinking in the teacher's",
    DISTANCES[1.0]: "all in the teacher's",
}


def parts_sentence(results: LabResults) -> str:
    """Return the scores of the controls for thinking and answer; empty while one is unfinished."""
    found = []
    setting = results.design.first_setting
    for arm, what in _PARTS.items():
        score = results.score(arm, setting, TARGET)
        if score is None or not results.is_complete(arm, setting):
            return ""
        found.append(f"{what} {score.value:.2f} ({score.low:.2f}–{score.high:.2f})")
    return (
        "Style of thinking and answer apart: trained on correct solutions by a program, of "
        f"N = {setting.rows:,} problems, the student scored: {'; '.join(found)}."
    )


def sentence(results: LabResults) -> str:
    """Return at which N the ordering held, at which it did not, and where it is undecided."""
    by_outcome: defaultdict[Outcome, list[Ordering]] = defaultdict(list)
    for one in orderings(results):
        by_outcome[one.outcome].append(one)
    if not by_outcome:
        return "This run has no scores for the paper's claim yet."
    parts = []
    if held := by_outcome["held"]:
        parts.append(f"held {_sizes(held)}")
    if failed := by_outcome["did not hold"]:
        parts.append(f"did not hold {_sizes(failed)}, where {_contradictions(failed)}")
    if undecided := by_outcome["undecided"]:
        parts.append(f"is undecided {_sizes(undecided)}, where an interval contains 0")
    return (
        f"In this run, by 95 % intervals for {results.population}, Teacher-Only < student < TESSY "
        f"{'; it '.join(parts)}."
    )


def comparison(results: LabResults) -> str:
    """Return at which N each of the models was above another one; empty without scores."""
    found = orderings(results)
    pairs = (
        ("TESSY", "Teacher-Only", [one.tessy_to_teacher_only for one in found]),
        ("TESSY", "the untrained student", [one.tessy for one in found]),
        ("Teacher-Only", "the untrained student", [one.teacher_only for one in found]),
    )
    return " ".join(_compared(*pair, found) for pair in pairs) if found else ""


def _compared(
    name: str, base: str, relations: Sequence[Relation], found: Sequence[Ordering]
) -> str:
    parts: list[str] = []
    for kind in get_args(Relation):
        alike = [one for one, each in zip(found, relations, strict=True) if each == kind]
        if alike:
            parts.append(f"{kind} {'it' if parts else base} {_sizes(alike)}")
    return f"{name} was {' and '.join(parts)}."


def of_each_student(results: LabResults, settings: Sequence[Setting]) -> dict[int, list[Ordering]]:
    """Return the orderings of each of several students, by its seeds and questions."""
    if len(results.students) < 2:
        return {}
    found = {}
    for student in results.students:
        others = [other for other in results.design.students if other != student]
        jobs = (job.id for job in results.jobs if job.student == student)
        by_id = {name: results.by_id[name] for name in jobs if name in results.by_id}
        found[student] = orderings(LabResults(results.design, by_id, others), settings)
    return found


def _contradictions(failed: list[Ordering]) -> str:
    found = []
    if any(one.teacher_only == "above" for one in failed):
        found.append("Teacher-Only was above the student")
    if any(one.tessy == "below" for one in failed):
        found.append("TESSY was below the student")
    return " or ".join(found)


def _sizes(found: list[Ordering]) -> str:
    *others, last = (f"{one.setting.rows:,}" for one in found)
    return f"at N = {', '.join(others)} and {last}" if others else f"at N = {last}"
