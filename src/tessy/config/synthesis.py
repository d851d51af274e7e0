"""Options of the commands that create and show runs: synthesize, plan, doctor, demo, view."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tessy.config.base import Config, PathList, RoleConfig, RunOptions
from tessy.core.records import Author

AnswerBy = Literal[Author, "trace"]


class TeacherConfig(RoleConfig):
    """The teacher, which some strategies need not have."""

    model: str = ""
    """Name of the model on its server, hub id, or local folder; required where it generates."""


class SynthesisOptions(RunOptions):
    """Options of `synthesize`, `plan` and `doctor`."""

    problems: PathList = ()
    """Files of problems (.jsonl, .json, .csv, .parquet), globs, folders of data sets, or
    `hf://datasets/OWNER/NAME[@REVISION][/PATH]`; strategy `restyle` takes `traces` instead."""
    strategy: str = Field(default="tessy", min_length=1)
    """Strategy: `tessy` (both models in turns), or a baseline: `student-only`,
    `teacher-only`, `teacher-think`, `teacher-answer`, `teacher-score`, `teacher-reference`; or
    `restyle` (experimental), which rewrites the style of existing traces."""
    answer_by: AnswerBy | None = None
    """Author of the answer in strategies `tessy` (student, teacher) and `restyle` (student,
    trace); None: student."""
    system_prompt: str | None = Field(default=None, pattern=r"\S")
    """A system message added before each problem; rows include it."""
    candidates: int | None = Field(default=None, ge=1)
    """Number of candidates per sample in strategy `teacher-score`, or per place in `restyle`, of
    which one is kept; None: 5, and 8 in `restyle`."""
    score_by: Literal["teacher", "answer"] = "teacher"
    """Score of a candidate: by the teacher, or by agreement with the reference answer."""

    traces: Path | None = None
    """Traces for strategy `restyle`: a run directory, or a source of rows like `problems` that
    have a response with its thinking."""
    unfit: Literal["keep", "fail"] = "keep"
    """What strategy `restyle` does where no candidate fits what follows: `keep` the words of the
    trace, or `fail` the sample."""
    allow_classifier: bool = False
    """Let strategy `restyle` split traces by a token classifier, which may delete capability."""

    student: RoleConfig
    """The student: the model to be trained. It writes the style and the answer."""
    teacher: TeacherConfig = TeacherConfig()
    """The teacher: the stronger model. It writes what solves the task."""
    cut: Literal["discard", "extend"] = "discard"
    """What happens to a word with tokens of both classes: `discard` drops it, `extend` keeps it if
    its first token is in the author's class."""
    lexicon: Path | None = None
    """File with additional style phrases for the `lexicon` predictor, one per line."""
    budget_hours: float | None = Field(default=None, gt=0)
    """Stop gracefully after this many hours of the run, over all its sessions; None: never."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Stop gracefully after this many generated tokens, including discarded ones; None: never."""


class SynthesizeConfig(SynthesisOptions):
    """Generate training samples that two models write together, or with a baseline strategy.

    The run can be interrupted at any time; the same command resumes it.
    """

    out: Path
    """Run directory; created if it does not exist."""


class PlanConfig(SynthesisOptions):
    """Run a pilot and estimate, with intervals, the cost of the whole file on these servers.

    The pilot's samples are kept: `synthesize` with the same options resumes the run.
    """

    out: Path
    """Run directory; created if it does not exist."""
    pilot: int = Field(default=20, ge=5)
    """Number of pilot samples; their problems are drawn at random from the file."""


class DoctorConfig(SynthesisOptions):
    """Check servers, models and prompts with one sample, and explain what to fix.

    Accepts every option of `synthesize`, so that both can use the same TOML file.
    """

    out: Path | None = None
    """Ignored; accepted so that the options of `synthesize` can be checked unchanged."""


class DemoConfig(Config):
    """Generate samples with two tiny bundled models, without a server."""

    out: Path = Path("runs/demo")
    """Run directory; created if it does not exist."""
    count: int = Field(default=40, ge=1)
    """Number of samples."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the problems and of sampling."""
    predictor: str = Field(default="bundled", min_length=1)
    """Boundary predictor: `bundled` (one per model), `lexicon`, a checkpoint (folder or hub id), or
    `module:callable`."""
    fresh: bool = False
    """Start over; an existing run is moved to `<directory>.old-1` (-2, …)."""


class ViewConfig(Config):
    """Write report.html, a self-contained page that shows a run, into the run's directory."""

    run: Path
    """Run directory."""
