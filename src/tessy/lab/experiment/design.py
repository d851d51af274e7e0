"""Designs of the experiment: which arms, on how many problems, with which seeds (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tessy.lab.experiment.arms import ARMS, CROSSED, DISTANCES, TEACHER_ONLY, TESSY, UPPER
from tessy.lab.experiment.recipes import RECIPES, sources
from tessy.lab.tasks import Task

JobKind = Literal["student", "predictors", "untrained", "data", "train"]

BUNDLED = 0  # seed of the bundled student
BATCH = 16  # sequences per optimizer step
SCORED_ROWS = 100  # of each recipe's data, for the negative log-likelihood


@dataclass(frozen=True, slots=True)
class Setting:
    """How a student is trained: problems, epochs, and highest learning rate."""

    rows: int
    epochs: int
    lr: float

    @property
    def label(self) -> str:
        """Its name in files."""
        return f"n{self.rows}-e{self.epochs}-lr{self.lr:g}"


@dataclass(frozen=True, slots=True)
class LabJob:
    """A unit of work for one process; its result is one file.

    Attributes:
        kind: What is done.
        student: Seed of the student.
        name: Arm of a training, recipe of data; empty for others.
        setting: How a student is trained.
        seed: Seed of the training and of the evaluation.
        by_epoch: Whether the model of each epoch is evaluated, too.
    """

    kind: JobKind
    student: int
    name: str = ""
    setting: Setting | None = None
    seed: int = 0
    by_epoch: bool = False

    @property
    def id(self) -> str:
        """Name of its file."""
        parts = [self.kind, f"s{self.student}", self.name]
        if self.setting is not None:
            parts.append(self.setting.label)
        if self.kind in ("train", "untrained"):
            parts.append(f"r{self.seed}")
        return "-".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Trainings:
    """Trainings of every combination of arms, settings and seeds, of each student."""

    arms: tuple[str, ...]
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Design:
    """What is run.

    Attributes:
        students: Seeds of the students; 0 is the bundled one.
        trainings: Trainings, the most important first; no combination occurs twice. The figures for
            one N use the first setting.
        by_epoch: Arms whose models are evaluated after each epoch, with the first seed, in the
            first setting.
        questions: Questions of the evaluation by task.
        epoch_questions: Questions of the evaluation of an epoch, of the first task.
        new_predictors: Train boundary predictors for each student, instead of the bundled ones.
        predictor_problems: Problems that these are trained on.
        student_steps: Optimizer steps of a new student; None: as many as the bundled one.
    """

    students: tuple[int, ...]
    trainings: tuple[Trainings, ...]
    by_epoch: tuple[str, ...] = ()
    questions: dict[Task, int] = field(
        default_factory=lambda: {"calc": 300, "max": 100, "rev": 100}
    )
    epoch_questions: int = 200
    new_predictors: bool = False
    predictor_problems: int = 3000
    student_steps: int | None = None

    @property
    def seeds(self) -> list[int]:
        """Every training seed; the untrained student is evaluated with each of them."""
        return sorted({seed for one in self.trainings for seed in one.seeds})

    @property
    def first_setting(self) -> Setting:
        """Setting of the figures for one N."""
        return self.trainings[0].settings[0]

    def settings(self, arm: str | None = None) -> list[Setting]:
        """Return the settings of an arm, or of all arms, each once, in order."""
        found = (one for one in self.trainings if arm is None or arm in one.arms)
        return list(dict.fromkeys(setting for one in found for setting in one.settings))

    def sizes(self) -> list[Setting]:
        """Return the settings with the epochs and learning rate of the first one, by size."""
        first = self.first_setting
        same = [s for s in self.settings() if (s.epochs, s.lr) == (first.epochs, first.lr)]
        return sorted(same, key=lambda setting: setting.rows)

    def seeds_of(self, arm: str, setting: Setting) -> list[int]:
        """Return the seeds that an arm is trained with."""
        found = (one for one in self.trainings if arm in one.arms and setting in one.settings)
        return sorted({seed for one in found for seed in one.seeds})

    def arms(self) -> list[str]:
        """Return the arms in the order of the tables."""
        trained = {arm for one in self.trainings for arm in one.arms}
        return [name for name in ARMS if name in trained]

    def main_arms(self) -> list[str]:
        """Return the arms with the most seeds in the first setting, in the order of the tables."""
        seeds = {arm: len(self.seeds_of(arm, self.first_setting)) for arm in self.arms()}
        return [arm for arm, count in seeds.items() if count == max(seeds.values())]

    def recipes(self) -> list[str]:
        """Return the recipes of all arms, sources first."""
        return _with_sources(ARMS[arm].data for arm in self.arms())

    @property
    def most_rows(self) -> int:
        """Number of problems of the largest setting."""
        return max(setting.rows for setting in self.settings())

    def rows(self, recipe: str) -> int:
        """Return the number of problems that a recipe's data are made from."""
        return max(
            setting.rows
            for arm in self.arms()
            if recipe in _with_sources([ARMS[arm].data])
            for setting in self.settings(arm)
        )

    def jobs(self) -> list[LabJob]:
        """Return all jobs by importance, each after the jobs that it needs."""
        found: dict[str, LabJob] = {}
        for trainings in self.trainings:
            for student in self.students:
                for job in (*self._before(student, trainings), *self._of(student, trainings)):
                    found.setdefault(job.id, job)
        return list(found.values())

    def _before(self, student: int, trainings: Trainings) -> Iterator[LabJob]:
        if student != BUNDLED:
            yield LabJob("student", student)
        for seed in self.seeds:
            yield LabJob("untrained", student, seed=seed)
        if self.new_predictors:
            yield LabJob("predictors", student)
        for recipe in _with_sources(ARMS[arm].data for arm in trainings.arms):
            yield LabJob("data", student, recipe)

    def _of(self, student: int, trainings: Trainings) -> Iterator[LabJob]:
        for setting in trainings.settings:
            for arm in trainings.arms:
                for seed in trainings.seeds:
                    first = (setting, seed) == (self.first_setting, self.seeds[0])
                    by_epoch = first and arm in self.by_epoch
                    yield LabJob("train", student, arm, setting, seed, by_epoch)

    def needs(self, job: LabJob) -> list[str]:
        """Return the ids of the jobs that must be finished before ``job``."""
        student = [] if job.student == BUNDLED else [LabJob("student", job.student).id]
        if job.kind == "student":
            return []
        gate = LabJob("untrained", job.student, seed=self.seeds[0]).id
        if job.kind == "untrained":
            return student if job.id == gate else [gate]
        if job.kind == "predictors":
            return [gate]
        if job.kind == "train":
            recipe = ARMS[job.name].data
            return [LabJob("data", job.student, recipe).id if recipe else gate]
        first = LabJob("predictors", job.student).id if self.new_predictors else gate
        return [first, *(LabJob("data", job.student, s).id for s in sources(RECIPES[job.name]))]


def _with_sources(recipes: Iterable[str]) -> list[str]:
    """Return recipes, each after the recipes whose data it reads; empty names are ignored."""
    found: dict[str, None] = {}
    for name in filter(None, recipes):
        found.update(dict.fromkeys((*_with_sources(sources(RECIPES[name])), name)))
    return list(found)


_MAIN = (TEACHER_ONLY, TESSY, UPPER)
_CONTROLS = (*(arm for arm in DISTANCES.values() if arm != UPPER), *CROSSED)
_OTHERS = tuple(arm for arm in ARMS if arm not in (*_MAIN, *_CONTROLS))


def _setting(rows: int, epochs: int = 9, lr: float = 2e-4) -> Setting:
    return Setting(rows, epochs, lr)


def quick() -> Design:
    """Return the design of a few minutes: the bundled student, N = 100 and 400."""
    seeds = (0, 1, 2)
    return Design(
        students=(BUNDLED,),
        trainings=(
            Trainings((*_MAIN, *_CONTROLS), (_setting(100),), seeds),
            Trainings(_MAIN, (_setting(400),), seeds),
            Trainings(_OTHERS, (_setting(100),), seeds[:1]),
        ),
        by_epoch=(TEACHER_ONLY, TESSY),
    )


def full() -> Design:
    """Return the long design: three other students, five seeds, N from 50 to 1,600.

    One factor varies at a time: N at 9 epochs and 2e-4; epochs and learning rates at N = 100 and
    400. The most expensive trainings have one seed for each of the three students.
    """
    seeds = (0, 1, 2, 3, 4)
    schedules = ((3, 2e-4), (27, 2e-4), (9, 5e-4), (9, 1e-3))
    small, large = (tuple(_setting(n, *schedule) for schedule in schedules) for n in (100, 400))
    return Design(
        students=(1, 2, 3),
        trainings=(
            Trainings((*_MAIN, *_CONTROLS), (_setting(100),), seeds),
            Trainings(_MAIN, tuple(map(_setting, (50, 200, 400))), seeds),
            Trainings(_MAIN, tuple(map(_setting, (800, 1600))), seeds[:1]),
            Trainings(_OTHERS, (_setting(100),), seeds[:1]),
            Trainings(_MAIN[:2], small, seeds),
            Trainings(_MAIN[:2], large, seeds[:1]),
            Trainings(_OTHERS, (_setting(400),), seeds[:1]),
        ),
        by_epoch=_MAIN,
        new_predictors=True,
    )
