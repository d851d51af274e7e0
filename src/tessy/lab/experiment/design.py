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
class Design:
    """What is run.

    Attributes:
        students: Seeds of the students; 0 is the bundled one.
        seeds: Seeds of the trainings of an arm.
        main: Arms with every training seed, by the settings that they are trained with.
        others: Further arms, with ``other_seeds`` and ``other_settings``.
        by_epoch: Arms whose models are evaluated after each epoch, with the first seed, in the
            first setting of ``main``.
        questions: Questions of the evaluation by task.
        epoch_questions: Questions of the evaluation of an epoch, of the first task.
        new_predictors: Train boundary predictors for each student, instead of the bundled ones.
        predictor_problems: Problems that these are trained on.
        student_steps: Optimizer steps of a new student; None: as many as the bundled one.
    """

    students: tuple[int, ...]
    seeds: tuple[int, ...]
    main: dict[str, tuple[Setting, ...]]
    others: tuple[str, ...] = ()
    other_seeds: tuple[int, ...] = ()
    other_settings: tuple[Setting, ...] = ()
    by_epoch: tuple[str, ...] = ()
    questions: dict[Task, int] = field(
        default_factory=lambda: {"calc": 400, "max": 150, "rev": 150}
    )
    epoch_questions: int = 200
    new_predictors: bool = False
    predictor_problems: int = 3000
    student_steps: int | None = None

    @property
    def most_rows(self) -> int:
        """Number of problems of the largest setting."""
        return max(setting.rows for setting in self.settings())

    def settings(self) -> list[Setting]:
        """Return every setting once, in order."""
        found = [setting for each in self.main.values() for setting in each]
        return list(dict.fromkeys((*found, *self.other_settings)))

    def arms(self) -> list[str]:
        """Return the arms in the order of the tables."""
        return [name for name in ARMS if name in self.main or name in self.others]

    def recipes(self) -> list[str]:
        """Return the recipes of all arms, sources first."""
        found: dict[str, None] = {}

        def add(names: Iterable[str]) -> None:
            for name in names:
                add(sources(RECIPES[name]))
                found[name] = None

        add(ARMS[arm].data for arm in self.arms())
        return list(found)

    def jobs(self) -> list[LabJob]:
        """Return all jobs; those that others need come first, then the main arms."""
        return [job for student in self.students for job in self._jobs_of(student)]

    def _jobs_of(self, student: int) -> Iterator[LabJob]:
        if student != BUNDLED:
            yield LabJob("student", student)
        for seed in self.seeds:
            yield LabJob("untrained", student, seed=seed)
        if self.new_predictors:
            yield LabJob("predictors", student)
        for recipe in self.recipes():
            yield LabJob("data", student, recipe)
        first = next(iter(self.main.values()))[0]
        for setting in self.settings():
            for arm, settings in self.main.items():
                for seed in self.seeds if setting in settings else ():
                    by_epoch = arm in self.by_epoch and (setting, seed) == (first, self.seeds[0])
                    yield LabJob("train", student, arm, setting, seed, by_epoch)
        for setting in self.other_settings:
            for arm in self.others:
                for seed in self.other_seeds:
                    yield LabJob("train", student, arm, setting, seed)

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
            return [LabJob("data", job.student, ARMS[job.name].data).id]
        first = LabJob("predictors", job.student).id if self.new_predictors else gate
        return [first, *(LabJob("data", job.student, s).id for s in sources(RECIPES[job.name]))]


def quick() -> Design:
    """Return the design of a few minutes: the bundled student, N = 100 and 400."""
    small, large = Setting(100, 9, 2e-4), Setting(400, 9, 2e-4)
    controls = [*(arm for arm in DISTANCES.values() if arm != UPPER), *CROSSED]
    return Design(
        students=(BUNDLED,),
        seeds=(0, 1, 2),
        main={
            TEACHER_ONLY: (small, large),
            TESSY: (small, large),
            UPPER: (small, large),
            **dict.fromkeys(controls, (small,)),
        },
        others=tuple(arm for arm in ARMS if arm not in (TEACHER_ONLY, TESSY, UPPER, *controls)),
        other_seeds=(0,),
        other_settings=(small,),
        by_epoch=(TEACHER_ONLY, TESSY),
    )


def full() -> Design:
    """Return the long design: three other students, five seeds, N from 50 to 1,600.

    One factor varies at a time: every N at 9 epochs and 2e-4; other epochs and learning rates at
    N = 100 and 400, for the main arms.
    """
    sizes = [Setting(rows, 9, 2e-4) for rows in (50, 100, 200, 400, 800, 1600)]
    varied = [
        setting
        for rows in (100, 400)
        for setting in (
            Setting(rows, 3, 2e-4),
            Setting(rows, 27, 2e-4),
            Setting(rows, 9, 5e-4),
            Setting(rows, 9, 1e-3),
        )
    ]
    small, large = Setting(100, 9, 2e-4), Setting(400, 9, 2e-4)
    main = (TEACHER_ONLY, TESSY, UPPER, DISTANCES[1.0])
    between = [*(arm for arm in DISTANCES.values() if arm not in main), *CROSSED]
    ordered = tuple(dict.fromkeys((small, large, *sizes, *varied)))
    return Design(
        students=(1, 2, 3),
        seeds=(0, 1, 2, 3, 4),
        main={
            **dict.fromkeys(main, ordered),
            **dict.fromkeys(between, (small, large)),
        },
        others=tuple(arm for arm in ARMS if arm not in (*main, *between)),
        other_seeds=(0, 1, 2, 3, 4),
        other_settings=(small, large),
        by_epoch=(TEACHER_ONLY, TESSY, UPPER),
        new_predictors=True,
    )
