"""One sentence on the paper's claim, Teacher-Only < student < TESSY, in a run (pure)."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, NamedTuple

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

Relation = Literal["below", "above", "within noise of"]
Outcome = Literal["held", "did not hold", "undecided"]

_VERBS: dict[Outcome, str] = {
    "held": "held",
    "did not hold": "did not hold",
    "undecided": "is undecided",
}


class Ordering(NamedTuple):
    """How both arms relate to the untrained student on the target task, in one setting."""

    setting: Setting
    teacher_only: Relation
    tessy: Relation
    scores: tuple[float, float, float]  # teacher-only, student, tessy
    one_training: bool = False  # of each arm, so the intervals are for other questions only

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
    """Return the relation to the untrained student; noise if the interval contains 0."""
    if difference.low <= 0 <= difference.high:
        return "within noise of"
    return "above" if difference.low > 0 else "below"


def orderings(results: LabResults) -> list[Ordering]:
    """Return the orderings by N, for the first number of epochs and learning rate.

    A setting with unfinished trainings has none: the scores would be of different students.
    """
    found = []
    for setting in results.design.sizes():
        if not all(results.is_complete(arm, setting) for arm in (TEACHER_ONLY, TESSY)):
            continue
        differences = [
            results.difference(arm, UNTRAINED, setting, TARGET) for arm in (TEACHER_ONLY, TESSY)
        ]
        scores = [results.score(arm, setting, TARGET) for arm in (TEACHER_ONLY, UNTRAINED, TESSY)]
        if None in differences or None in scores:
            continue
        teacher_only, tessy = (relation(one) for one in differences if one is not None)
        low, middle, high = (score.value for score in scores if score is not None)
        runs = min(len(results.all_trained(arm, setting)) for arm in (TEACHER_ONLY, TESSY))
        found.append(
            Ordering(setting, teacher_only, tessy, (low, middle, high), one_training=runs == 1)
        )
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
        f"Style of thinking and answer apart: trained on correct traces of N = {setting.rows:,} "
        f"problems, the student scored: {'; '.join(found)}."
    )


def sentence(results: LabResults, start: str = "In this run") -> str:
    """Return at which N the ordering held, at which it did not, and where it is undecided."""
    found = orderings(results)
    if not found:
        return "This run has no scores for the paper's claim yet."
    alike: defaultdict[tuple[Outcome, Relation, Relation, bool], list[Ordering]] = defaultdict(list)
    for one in found:
        alike[one.outcome, one.teacher_only, one.tessy, one.one_training].append(one)
    parts = []
    for outcome, verb in _VERBS.items():
        reasons = [_why(group) for key, group in alike.items() if key[0] == outcome]
        if reasons:
            parts.append(f"{verb} {'; '.join(reasons)}")
    return (
        f"{start}, by 95 % intervals for {results.population}, Teacher-Only < student < TESSY "
        f"{'; it '.join(parts)}."
    )


def sentences_by_student(results: LabResults) -> list[str]:
    """Return the sentence on the claim for each of several students, by its seeds and questions."""
    if len(results.students) < 2:
        return []
    found = []
    for student in results.students:
        others = [other for other in results.design.students if other != student]
        jobs = (job.id for job in results.jobs if job.student == student)
        by_id = {name: results.by_id[name] for name in jobs if name in results.by_id}
        alone = LabResults(results.design, by_id, others)
        found.append(sentence(alone, f"For student {student} alone"))
    return found


def _why(alike: list[Ordering]) -> str:
    """Return the sizes and scores of orderings with the same relations."""
    sizes = _listed([f"{one.setting.rows:,}" for one in alike])
    training = ", one training each" if alike[0].one_training else ""
    where = f"at N = {sizes}{training}"
    if alike[0].outcome == "held":
        return f"{where} ({'; '.join(' < '.join(_score(s) for s in one.scores) for one in alike)})"
    low, middle, high = (_scores(each) for each in zip(*(one.scores for one in alike), strict=True))
    below, above = alike[0].teacher_only, alike[0].tessy
    student = f"the student ({middle})"
    if below == above:
        return f"{where}, where teacher-only ({low}) and tessy ({high}) were {above} {student}"
    return (
        f"{where}, where teacher-only ({low}) was {below} {student} and tessy ({high}) {above} it"
    )


def _listed(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _scores(values: tuple[float, ...]) -> str:
    shown = list(map(_score, values))
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def _score(value: float) -> str:
    return f"{value:.2f}"
