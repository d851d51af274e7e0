"""Options of the commands that make and show runs: synthesize, plan, doctor, demo, view."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tessy.config.base import Config, RoleConfig, RunOptions
from tessy.core.records import Author


class SynthesisOptions(RunOptions):
    """Options of `synthesize`, `plan` and `doctor`."""

    strategy: str = Field(default="tessy", min_length=1)
    """How samples are made: `tessy` (both models in turns), or a baseline: `student-only`,
    `teacher-only`, `teacher-think`, `teacher-answer`, `teacher-score`, `teacher-reference`."""
    answer_by: Author | None = None
    """Author of the answer in strategy `tessy`; None: student."""
    system_prompt: str | None = Field(default=None, pattern=r"\S")
    """A system message added before each problem; rows include it."""
    candidates: int = Field(default=5, ge=2)
    """Candidates of one sample in strategy `teacher-score`; the best one is kept."""
    score_by: Literal["teacher", "answer"] = "teacher"
    """What ranks candidates: the teacher's score, or agreement with the reference answer."""

    student: RoleConfig
    """The student: the model to be trained. It writes the style and the answer."""
    teacher: RoleConfig
    """The teacher: the stronger model. It writes what solves the task."""
    cut: Literal["discard", "extend"] = "discard"
    """What happens to a word with tokens of both classes: `discard` drops it, `extend` keeps it if
    its first token is in the author's class."""
    lexicon: Path | None = None
    """File with additional style phrases for the `lexicon` predictor, one per line."""
    budget_hours: float | None = Field(default=None, gt=0)
    """Stop gracefully after this many hours of the run, over all its sessions; None: never."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Stop gracefully once the models have generated this many tokens, kept or not; None: never."""


class SynthesizeConfig(SynthesisOptions):
    """Make training samples that two models write together, or by a method to compare with.

    The run can be interrupted at any time; the same command resumes it.
    """

    out: Path
    """The run directory; made if it does not exist."""


class PlanConfig(SynthesisOptions):
    """Make a pilot and estimate, with intervals, what the whole file would take on these servers.

    The pilot's samples are kept: `synthesize` with the same options continues the run.
    """

    out: Path
    """The run directory; made if it does not exist."""
    pilot: int = Field(default=20, ge=5)
    """Samples of the pilot, of problems drawn at random from the file."""


class DoctorConfig(SynthesisOptions):
    """Check servers, models and prompts with one sample, and explain what to fix.

    Takes every option of `synthesize`, so that a TOML file serves both.
    """

    out: Path | None = None
    """Not used; accepted so that a command line of `synthesize` can be checked unchanged."""


class DemoConfig(Config):
    """Make samples with two tiny bundled models, on this machine alone."""

    out: Path = Path("runs/demo")
    """The run directory; made if it does not exist."""
    count: int = Field(default=40, ge=1)
    """Samples to make."""
    seed: int = Field(default=0, ge=0)
    """Seed of the problems and of all draws."""
    predictor: str = Field(default="bundled", min_length=1)
    """Boundary predictor: `bundled` (each model's own), `lexicon`, or any of `synthesize`."""
    fresh: bool = False
    """Start over; an existing run is moved to `<directory>.old-1` (-2, …)."""


class ViewConfig(Config):
    """Write a run as one self-contained page, report.html in its directory."""

    run: Path
    """The run directory."""
