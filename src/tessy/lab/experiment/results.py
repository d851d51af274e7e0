"""Scores of the arms, from the results of the jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tessy.core.formatting import counted
from tessy.core.statistics import CrossedEstimate, crossed_mean, crossed_share
from tessy.lab.experiment.arms import UNTRAINED
from tessy.lab.experiment.design import Design, LabJob, Setting
from tessy.lab.experiment.outcomes import read_result
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.recipes import RECIPES, Reauthored
from tessy.lab.tasks import Task

Result = Mapping[str, Any]
Answers = list[list[float]]  # runs × questions: whether the answer is correct


@dataclass(frozen=True)
class LabResults:
    """Results of the finished jobs, by id, without those of students that are left out."""

    design: Design
    by_id: Mapping[str, Result]
    left_out: Sequence[int] = ()
    _scores: dict[tuple[str, Setting | None, Task], CrossedEstimate | None] = field(
        default_factory=dict
    )

    @cached_property
    def students(self) -> list[int]:
        """Seeds of the students with a result."""
        seed = self.design.seeds[0]
        gates = {s: LabJob("untrained", s, seed=seed).id for s in self.design.students}
        return [student for student, gate in gates.items() if gate in self.by_id]

    @property
    def population(self) -> str:
        """What the intervals are for: other students, or other seeds of the only one."""
        return f"other {'students' if len(self.students) > 1 else 'seeds'} and questions"

    @property
    def of_first_student(self) -> str:
        """Text for what is shown of the first of several students; empty with one."""
        return f" of student {self.students[0]}" if len(self.students) > 1 else ""

    @cached_property
    def jobs(self) -> list[LabJob]:
        """Jobs of the students that are not left out."""
        return [job for job in self.design.jobs() if job.student not in self.left_out]

    @property
    def progress(self) -> str:
        """Number of finished jobs, and of all jobs of an unfinished run: ``3 of 81 jobs``."""
        done, total = len(self.by_id), counted(len(self.jobs), "job")
        return total if done == len(self.jobs) else f"{done:,} of {total}"

    @property
    def is_finished(self) -> bool:
        """Whether every job has a result."""
        return len(self.by_id) == len(self.jobs)

    def is_complete(self, arm: str, setting: Setting) -> bool:
        """Return whether all trainings of an arm in a setting have scores."""
        trainings = (job.id for job in self.jobs if (job.name, job.setting) == (arm, setting))
        return all("skipped" not in self.by_id.get(name, {"skipped": ""}) for name in trainings)

    def seeds(self, arm: str, setting: Setting | None) -> list[int]:
        """Return the training seeds of an arm; of the untrained student, those of its answers."""
        if arm == UNTRAINED or setting is None:
            return self.design.seeds
        return self.design.seeds_of(arm, setting)

    def trained(self, arm: str, setting: Setting | None, student: int, seed: int) -> Result | None:
        """Return the result of one training; None if there is none.

        The setting is not used for the untrained student.
        """
        job = LabJob("train", student, arm, setting, seed)
        if arm == UNTRAINED:
            job = LabJob("untrained", student, seed=seed)
        found = self.by_id.get(job.id)
        return None if found is None or "skipped" in found else found

    def by_seed(self, arm: str, setting: Setting | None, student: int) -> dict[int, Result]:
        """Return the results of an arm's trainings of one student, by seed."""
        found = {s: self.trained(arm, setting, student, s) for s in self.seeds(arm, setting)}
        return {seed: result for seed, result in found.items() if result is not None}

    def all_trained(self, arm: str, setting: Setting | None) -> list[Result]:
        """Return the results of an arm, of every student and seed."""
        by_student = (self.by_seed(arm, setting, student) for student in self.students)
        return [result for found in by_student for result in found.values()]

    def trainings(self, arm: str, setting: Setting | None) -> list[int]:
        """Return the number of trainings of each student with some."""
        counts = (len(self.by_seed(arm, setting, student)) for student in self.students)
        return [count for count in counts if count]

    def data(self, recipe: str, student: int | None = None) -> Result | None:
        """Return the description of a recipe's data; ``student`` None: of the first one.

        Words of re-authored rows have classes instead of authors, so their ``leak`` is None.
        """
        student = self.students[0] if student is None else student
        found = self.by_id.get(LabJob("data", student, recipe).id)
        if found is not None and isinstance(RECIPES[recipe], Reauthored):
            return {**found, "leak": None}
        return found

    def score(self, arm: str, setting: Setting | None, task: Task) -> CrossedEstimate | None:
        """Return the accuracy of an arm; None without a finished training."""
        key = (arm, None if arm == UNTRAINED else setting, task)
        if key not in self._scores:
            answers = self._answers(arm, setting, task)
            self._scores[key] = crossed_share(answers) if answers else None
        return self._scores[key]

    def difference(
        self, arm: str, base: str, setting: Setting, task: Task
    ) -> CrossedEstimate | None:
        """Return the accuracy of ``arm`` minus that of ``base``, paired by student and question.

        The mean of the untrained student's answers is subtracted, as its seeds are no trainings.
        Another base is paired by seed, so that the variance has a part of its trainings, too.
        """
        pairs = self._answers(arm, setting, task, base)
        return crossed_mean(pairs) if pairs else None

    def _answers(
        self, arm: str, setting: Setting | None, task: Task, base: str | None = None
    ) -> Answers:
        """Return a row for each student, the mean over seeds; for each seed of a single student.

        With ``base``, values are differences.
        """
        by_student: list[Answers] = []
        for student in self.students:
            rows = self._answers_of(student, arm, setting, task)
            if base is not None:
                others = self._answers_of(student, base, setting, task)
                if base == UNTRAINED and others:
                    others = dict.fromkeys(rows, _means(list(others.values())))
                rows = {
                    seed: [x - y for x, y in zip(row, others[seed], strict=True)]
                    for seed, row in rows.items()
                    if seed in others
                }
            if rows:
                by_student.append(list(rows.values()))
        return by_student[0] if len(by_student) == 1 else list(map(_means, by_student))

    def _answers_of(
        self, student: int, arm: str, setting: Setting | None, task: Task
    ) -> dict[int, list[float]]:
        return {
            seed: [float(x) for x in one["correct"][task]]
            for seed, one in self.by_seed(arm, setting, student).items()
        }

    def skipped(self, arm: str) -> str | None:
        """Return why an arm has no score; None if it has one."""
        settings = self.design.settings(arm)
        if any(self.all_trained(arm, setting) for setting in settings):
            return None
        ids = [
            LabJob("train", student, arm, setting, seed).id
            for student in self.students
            for setting in settings
            for seed in self.seeds(arm, setting)
        ]
        reasons = [self.by_id[i]["skipped"] for i in ids if i in self.by_id]
        return str(reasons[0]) if reasons else "not finished"


def _means(rows: Answers) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def read_results(design: Design, paths: LabPaths, left_out: Sequence[int] = ()) -> LabResults:
    """Read the results of the finished jobs, but for students that are left out.

    Raises:
        RunError: A file is damaged.
    """
    found = {}
    for job in design.jobs():
        path = paths.result(job)
        if job.student not in left_out and path.is_file():
            found[job.id] = read_result(path)
    return LabResults(design, found, left_out)
