"""Time of the unfinished jobs, from the measured times of finished ones (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tessy.lab.experiment.arms import ARMS
from tessy.lab.experiment.design import BATCH, Design, LabJob
from tessy.lab.experiment.recipes import RECIPES, Synthesized
from tessy.lab.train_models import PLANS

# Seconds on one core of docs/lab.md's machine; the times of finished jobs correct them.
_STUDENT_STEP = 0.07  # optimizer step of a new student
_PREDICTOR_PROBLEM = 0.03
_TRAINING = 3.0  # fixed part of a training
_TRAINING_STEP = 0.08
_ON_POLICY_STEP = 0.3  # with its responses
_RESPONSE = 0.01  # of an evaluation
_DATA = 1.0  # fixed part of making data, with the likelihood of the rows
_ROW = {"tessy": 0.035, "teacher-score": 0.04, "restyle": 0.012}  # by strategy
_OTHER_ROW = 0.009  # of the other strategies


def expected_seconds(design: Design, job: LabJob) -> float:
    """Return the time of a job on the machine of docs/lab.md."""
    evaluation = _RESPONSE * sum(design.questions.values())
    match job.kind:
        case "student":
            return _STUDENT_STEP * (design.student_steps or PLANS["student"].steps)
        case "predictors":
            return _PREDICTOR_PROBLEM * design.predictor_problems
        case "data":
            return _DATA + design.rows(job.name) * _row_seconds(job.name)
        case "untrained":
            return evaluation
    assert job.setting is not None
    epochs = job.setting.epochs
    steps = -(-job.setting.rows // BATCH) * epochs
    by_epoch = _RESPONSE * design.epoch_questions * epochs if job.by_epoch else 0
    step = _ON_POLICY_STEP if ARMS[job.name].on_policy else _TRAINING_STEP
    return _TRAINING + step * steps + evaluation + by_epoch


def _row_seconds(name: str) -> float:
    recipe = RECIPES[name]
    if not isinstance(recipe, Synthesized):
        return 0.0
    candidates = int(str(recipe.options.get("candidates", 1)))
    return _ROW.get(recipe.strategy, _OTHER_ROW) * candidates


def seconds_left(
    design: Design, left: Iterable[LabJob], measured: Mapping[LabJob, float], workers: int
) -> float:
    """Return the seconds until the jobs ``left`` are done.

    Args:
        design: The design.
        left: Unfinished jobs.
        measured: Wall-clock seconds of finished jobs. The expected times of each kind are scaled
            to them; a kind without a finished job is scaled by the mean of all kinds.
        workers: Number of processes.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    expected: defaultdict[str, float] = defaultdict(float)
    for job, time in measured.items():
        for kind in (job.kind, ""):
            seconds[kind] += time
            expected[kind] += expected_seconds(design, job)
    factors = {kind: seconds[kind] / expected[kind] for kind in expected}
    default = factors.get("", 1.0)
    return (
        sum(expected_seconds(design, job) * factors.get(job.kind, default) for job in left)
        / workers
    )
