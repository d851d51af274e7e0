"""``tessy lab``: the paper's experiment with tiny models, from problems to a page."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tessy.config.lab import LabConfig
from tessy.core.errors import EXIT_INTERRUPTED, ConfigError, RunError
from tessy.core.extras import check_installed
from tessy.core.formatting import counted, duration
from tessy.lab.bundled import predictor_path, student_path, teacher_path
from tessy.lab.experiment.design import Design, LabJob, full, quick
from tessy.lab.experiment.estimate import seconds_left
from tessy.lab.experiment.gate import reason_to_refuse
from tessy.lab.experiment.outcomes import read_result
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.problems import write_files
from tessy.lab.experiment.workers import Interruption, finished, run_all
from tessy.runtime.log import software
from tessy.storage import jsonl
from tessy.storage.atomic import archive, make_directory
from tessy.storage.lock import FileLock
from tessy.storage.run_config import DirectoryKind, open_config

_LIBRARIES = ("torch", "accelerate", "datasets", "matplotlib", "peft", "trl")
_KIND = DirectoryKind(
    name="lab",
    directory="folder of an experiment",
    made_by="`tessy lab` creates such folders",
)


def lab(config: LabConfig, console: Console | None = None) -> int:
    """Run the experiment, write its page, and return the exit code: 0, or 130 after Ctrl-C.

    Raises:
        InputError: The folder cannot be used, a library is missing, or the student is unfit.
        JobError: A job failed; finished ones are kept.
    """
    return run_lab(config, full() if config.full else quick(), console)


def run_lab(config: LabConfig, design: Design, console: Console | None = None) -> int:
    """Run an experiment of the given design; returns and raises as :func:`lab`."""
    check_installed("lab", dict.fromkeys(_LIBRARIES, "train"))
    console = console or Console(stderr=True)
    paths = LabPaths(config.out.expanduser().resolve())
    with ExitStack() as stack:
        _open(config, design, paths, stack)
        if not (paths.problems.exists() and paths.questions.exists()):
            write_files(paths.problems, paths.questions, design)
        run = LabRun(design, paths, config.workers or os.cpu_count() or 1, console)
        complete = run.finish()
        shutil.rmtree(paths.work, ignore_errors=True)
        if complete or run.has_trained:
            from tessy.lab.experiment.page import write_pages

            console.print(write_pages(design, paths, run.left_out, config.out), soft_wrap=True)
        if not complete:
            console.print("Stopped gracefully. The same command resumes it.", soft_wrap=True)
            return EXIT_INTERRUPTED
    return 0


class LabRun:
    """The jobs of an experiment in this process and its workers."""

    def __init__(self, design: Design, paths: LabPaths, workers: int, console: Console) -> None:
        self.left_out: dict[int, str] = {}  # students, with the reason
        self._design = design
        self._paths = paths
        self._workers = workers
        self._console = console
        self._jobs = design.jobs()
        self._measured: dict[LabJob, float] = {}

    @property
    def has_trained(self) -> bool:
        """Whether a training has finished; without one, the page would be empty."""
        return any(job.kind == "train" for job in self._measured)

    def finish(self) -> bool:
        """Run all jobs without a result; return False if Ctrl-C stopped them.

        Raises:
            ConfigError: No student is fit for the experiment.
        """
        for job in self._jobs:
            if finished(self._paths, job):
                self._note(job, read_result(self._paths.result(job)))
        left = sum(not finished(self._paths, job) for job in self._jobs)
        if not left:
            return True
        self._console.print(
            f"{counted(len(self._jobs), 'job')}, {len(self._jobs) - left:,} of them finished, "
            f"by {counted(self._workers, 'worker')} of one thread; {self._time_left()}.",
            soft_wrap=True,
        )
        from tessy.lab.experiment.measure import LabContext, run_job

        interruption = Interruption(
            lambda: self._console.print(
                "Stopping after the running jobs; Ctrl-C again aborts them.", soft_wrap=True
            )
        )
        with interruption.handled():
            return run_all(
                self._jobs,
                self._design.needs,
                partial(run_job, LabContext(self._paths.out, self._design)),
                self._paths,
                workers=self._workers,
                on_result=self._report,
                leave_out=lambda job: job.student in self.left_out,
                interruption=interruption,
            )

    def _note(self, job: LabJob, result: dict[str, Any]) -> None:
        """Record the time of a finished job, and whether the student is fit."""
        if "seconds" in result and "skipped" not in result:
            self._measured[job] = result["seconds"]["wall"]
        gate = LabJob("untrained", job.student, seed=self._design.seeds[0])
        if job != gate:
            return
        reason = reason_to_refuse(result["correct"])
        if reason is None:
            return
        self.left_out[job.student] = reason
        if len(self.left_out) == len(self._design.students):
            raise ConfigError(
                f"the untrained student is unfit for the experiment: {reason}, so nothing was "
                "trained; check the bundled models, or train others "
                "(python -m tessy.lab.train_models)"
            )
        self._console.print(f"Student {job.student} is left out: {reason}.", soft_wrap=True)

    def _report(self, job: LabJob, result: dict[str, Any]) -> None:
        self._note(job, result)
        done = sum(finished(self._paths, one) for one in self._jobs)
        what = result.get("skipped") or duration(result["seconds"]["wall"])
        self._console.print(
            f"{time.strftime('%H:%M:%S')} {done:,} of {len(self._jobs):,}: {job.id} ({what}); "
            f"{self._time_left()}",
            soft_wrap=True,
            highlight=False,
        )

    def _time_left(self) -> str:
        left = [
            job
            for job in self._jobs
            if not finished(self._paths, job) and job.student not in self.left_out
        ]
        if not left:
            return "writing the page"
        seconds = seconds_left(self._design, left, self._measured, self._workers)
        basis = "the times of finished jobs" if self._measured else "the times of another machine"
        return f"about {duration(seconds)} left, estimated from {basis}"


def _open(config: LabConfig, design: Design, paths: LabPaths, stack: ExitStack) -> None:
    """Create, lock and check the folder; an existing one is moved away if ``fresh``."""
    out = paths.out
    if not paths.config.is_file() and _has_other_files(paths):
        raise ConfigError(
            f"--out {config.out} exists and was not written by `tessy lab`; choose another --out"
        )
    try:
        make_directory(out)
        if config.fresh and paths.config.exists():
            with FileLock(paths.lock):
                archive(out)
            make_directory(out)
        stack.enter_context(FileLock(paths.lock))
        make_directory(paths.jobs)
    except OSError as error:
        raise RunError(f"{config.out} cannot be used: {error}; choose another --out") from error
    folders = {
        "student": student_path(),
        "teacher": teacher_path(),
        "student.predictor": predictor_path("student"),
        "teacher.predictor": predictor_path("teacher"),
    }
    plan = jsonl.plain_object(asdict(design))
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
    data: dict[str, Any] = {"full": config.full, "design": digest}
    data |= {name: _weights(path) for name, path in folders.items()}
    facts = {
        "config": config.model_dump(mode="json"),
        "software": software(),
        "machine": machine(),
        "design": plan,
    }
    open_config(paths.config, _KIND, facts, data, lambda: any(paths.jobs.iterdir()))


def _has_other_files(paths: LabPaths) -> bool:
    if not paths.out.is_dir():
        return paths.out.exists()
    return any(path.name != paths.lock.name for path in paths.out.iterdir())


def machine() -> str:
    """Return the kind of this machine, without a name."""
    return f"{platform.system()} {platform.machine()}, {counted(os.cpu_count() or 1, 'CPU core')}"


def _weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
