"""One sentence on the paper's claim, Teacher-Only < student < TESSY, in a run (pure)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tessy.core.statistics import CrossedEstimate
from tessy.lab.experiment.arms import TEACHER_ONLY, TESSY, UNTRAINED
from tessy.lab.experiment.design import Setting
from tessy.lab.experiment.problems import TARGET
from tessy.lab.experiment.results import LabResults

Relation = Literal["below", "above", "within noise of"]


class Ordering(NamedTuple):
    """How both arms relate to the untrained student on the target task, in one setting."""

    setting: Setting
    teacher_only: Relation
    tessy: Relation
    scores: tuple[float, float, float]  # teacher-only, student, tessy

    @property
    def holds(self) -> bool:
        """Whether the student is above teacher-only and below tessy, beyond noise."""
        return self.teacher_only == "below" and self.tessy == "above"


def relation(difference: CrossedEstimate) -> Relation:
    """Return the relation to the untrained student; noise if the interval contains 0."""
    if difference.low <= 0 <= difference.high:
        return "within noise of"
    return "above" if difference.low > 0 else "below"


def orderings(results: LabResults) -> list[Ordering]:
    """Return the orderings by N, for the first number of epochs and learning rate."""
    first = results.design.settings()[0]
    found = []
    for setting in sorted(results.design.settings(), key=lambda setting: setting.rows):
        if (setting.epochs, setting.lr) != (first.epochs, first.lr):
            continue
        differences = [
            results.difference(arm, UNTRAINED, setting, TARGET) for arm in (TEACHER_ONLY, TESSY)
        ]
        scores = [results.score(arm, setting, TARGET) for arm in (TEACHER_ONLY, UNTRAINED, TESSY)]
        if None in differences or None in scores:
            continue
        teacher_only, tessy = (relation(one) for one in differences if one is not None)
        low, middle, high = (score.value for score in scores if score is not None)
        found.append(Ordering(setting, teacher_only, tessy, (low, middle, high)))
    return found


def sentence(found: list[Ordering]) -> str:
    """Return whether the ordering held, at which N, and where it stopped holding."""
    if not found:
        return "This run has no scores for the paper's claim yet."
    holding = [one for one in found if one.holds]
    failing = [one for one in found if not one.holds]
    reasons = "; ".join(map(_why, failing))
    if not holding:
        return f"Teacher-Only < student < TESSY did not hold in this run: {reasons}."
    first = f"Teacher-Only < student < TESSY held in this run {_sizes(holding)}{_shown(holding)}"
    if not failing:
        return f"{first}, at every size that was run."
    return f"{first}. It did not hold {reasons}."


def _sizes(found: list[Ordering]) -> str:
    return "at N = " + " and ".join(f"{one.setting.rows:,}" for one in found)


def _shown(found: list[Ordering]) -> str:
    values = (" < ".join(f"{score:.2f}" for score in one.scores) for one in found)
    return f" ({'; '.join(values)})"


def _why(one: Ordering) -> str:
    low, middle, high = one.scores
    return (
        f"at N = {one.setting.rows:,}, where teacher-only ({low:.2f}) was {one.teacher_only} and "
        f"tessy ({high:.2f}) {one.tessy} the student ({middle:.2f})"
    )
