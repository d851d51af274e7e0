"""Time of the unfinished jobs, from the measured times of finished ones (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tessy.lab.experiment.design import Design, LabJob
from tessy.lab.train_models import PLANS

# Cost of jobs of one kind relative to each other: optimizer steps, and responses in steps.
_STEPS_PER_RESPONSE = 0.08
_BATCH = 16


def work_of(design: Design, job: LabJob) -> float:
    """Return the approximate work of a job, in optimizer steps."""
    evaluation = _STEPS_PER_RESPONSE * sum(design.questions.values())
    match job.kind:
        case "student":
            return design.student_steps or PLANS["student"].steps
        case "predictors":
            return design.predictor_problems
        case "data":
            return 1.0 * design.most_rows
        case "untrained":
            return evaluation
    assert job.setting is not None
    epochs = job.setting.epochs
    steps = -(-job.setting.rows // _BATCH) * epochs
    by_epoch = _STEPS_PER_RESPONSE * design.epoch_questions * epochs if job.by_epoch else 0
    return steps + evaluation + by_epoch


def seconds_left(
    design: Design, left: Iterable[LabJob], measured: Mapping[LabJob, float], workers: int
) -> float | None:
    """Return the seconds until the jobs ``left`` are done; None if nothing is measured.

    Args:
        design: The design.
        left: Unfinished jobs.
        measured: Wall-clock seconds of finished jobs.
        workers: Number of processes.

    A kind of job without a measured time has the mean rate of the others.
    """
    if not measured:
        return None
    seconds: defaultdict[str, float] = defaultdict(float)
    work: defaultdict[str, float] = defaultdict(float)
    for job, time in measured.items():
        for kind in (job.kind, ""):
            seconds[kind] += time
            work[kind] += work_of(design, job)
    rates = {kind: seconds[kind] / work[kind] for kind in work}
    total = sum(work_of(design, job) * rates.get(job.kind, rates[""]) for job in left)
    return total / workers
