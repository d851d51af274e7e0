"""Folders of experiments for tests: with made-up results, or of a tiny run."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from tessy.config.lab import LabConfig
from tessy.core.records import Span
from tessy.lab.experiment.arms import ARMS, TEACHER_ONLY, TESSY
from tessy.lab.experiment.command import run_lab
from tessy.lab.experiment.design import Design, LabJob, Setting, Trainings
from tessy.lab.experiment.paths import LabPaths
from tests.support.page_samples import sample

SETTING = Setting(8, 1, 2e-4)
TINY = Design(
    students=(0,),
    trainings=(Trainings((TEACHER_ONLY, TESSY), (SETTING,), (0,)),),
    by_epoch=(TESSY,),
    questions={"calc": 20, "max": 5, "rev": 5},
    epoch_questions=5,
)


NO_ROWS = "no sample could be finished"


class StoppedError(Exception):
    """Raised by :class:`_Silent`."""


class _Silent(Console):
    def print(self, *_: object, **__: object) -> None:
        raise StoppedError


def opened(out: Path, design: Design = TINY) -> LabPaths:
    """Return the folder of an experiment that stopped before its first job."""
    with contextlib.suppress(StoppedError):
        run_lab(LabConfig(out=out), design, _Silent())
    return LabPaths(out)


def do_here(paths: LabPaths, job: LabJob, design: Design = TINY) -> dict[str, Any]:
    """Do a job in this process, and return its result, which is written to its file."""
    from tessy.lab.experiment.measure import LabContext, run_job

    result = {"job": job.id, **run_job(LabContext(paths.out, design), job)}
    result["seconds"] = {"wall": 1.0, "cpu": 1.0}
    paths.result(job).write_text(json.dumps(result))
    found: dict[str, Any] = json.loads(paths.result(job).read_bytes())
    return found


def made_up(out: Path, design: Design, accuracy: dict[str, float] | None = None) -> LabPaths:
    """Write made-up results of every job of a design; ``accuracy`` is that of `calc` by arm."""
    paths = LabPaths(out)
    paths.jobs.mkdir(parents=True)
    config = {"created": "2026-01-01", "machine": "none", "tessy": "0", "software": {}}
    paths.config.write_text(json.dumps(config))
    rng = Random(0)
    for job in design.jobs():
        result = {"job": job.id, "seconds": {"wall": 1.0, "cpu": 1.0}}
        result |= _result(design, job, rng, accuracy or {})
        paths.result(job).write_text(json.dumps(result))
    return paths


def _result(design: Design, job: LabJob, rng: Random, accuracy: dict[str, float]) -> dict[str, Any]:
    if job.kind == "data":
        return _no_data() if job.name.startswith("restyle") else _data(job, rng)
    if job.kind in ("student", "predictors"):
        return {}
    target = accuracy.get(job.name or "untrained", 0.7)
    correct = {
        task: [rng.random() < (target if task == "calc" else 0.99) for _ in range(count)]
        for task, count in design.questions.items()
    }
    result: dict[str, Any] = {"correct": correct}
    if job.kind == "train":
        if ARMS[job.name].data.startswith("restyle"):
            return {"skipped": NO_ROWS}
        epochs = job.setting.epochs if job.setting else 1
        result |= {"distinct_rows": 8, "steps": 9, "losses": [1 / (n + 1) for n in range(epochs)]}
    if job.by_epoch:
        ends = {"value": 0.5, "low": 0.4, "high": 0.6}
        result["by_epoch"] = [
            {"epoch": epoch + 1, "pass@1": ends, "problems": 200} for epoch in range(9)
        ]
    return result


def _no_data() -> dict[str, Any]:
    words = {"words": 0, "wrong": 0, "share": None, "low": None, "high": None}
    leak = {"samples": 0, "style": words, "capability": words}
    return {
        "rows": 0,
        "failures": {"budget": 9},
        "correct": [],
        "leak": leak,
        "nll": {},
        "sample": None,
    }


def _data(job: LabJob, rng: Random) -> dict[str, Any]:
    row = sample("calc-0001", question="What is 1 + 2? <b>Now</b>")
    middle = len(row.thinking) // 2
    spans = (
        Span(start=0, end=middle, author="student"),
        Span(start=middle, end=len(row.thinking), author="teacher"),
    )
    row = row.model_copy(update={"spans": spans})
    words = {"words": 9, "wrong": 1, "share": rng.random(), "low": 0.0, "high": 1.0}
    nll = {"value": 5 * rng.random(), "low": 0.0, "high": 9.0, "n": 12.0, "questions": 3}
    return {
        "rows": 8,
        "failures": {"budget": 1},
        "correct": [True] * 7 + [False],
        "leak": {"samples": 8, "style": words, "capability": words},
        "nll": dict.fromkeys(("style", "other", "answer", "all"), nll),
        "sample": row.model_dump(mode="json", exclude={"student_ids"}),
    }
