"""Options of ``tessy evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tessy.config.base import Config, GenerationOptions, ModelConfig, SamplingConfig


class EvaluationSampling(SamplingConfig):
    """Sampling of responses that are judged."""

    temperature: float = Field(default=0.6, ge=0)
    """Sampling temperature; 0 is greedy. The paper's is 0.6."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: cumulative probability of the tokens to draw from."""


class EvaluateConfig(GenerationOptions, ModelConfig):
    """Let a model answer the problems of a benchmark, judge its answers, and score them.

    It can be interrupted at any time; the same command resumes it.
    """

    benchmark: str = Field(min_length=1)
    """Benchmark: a file of problems with reference answers, or `gsm8k`, `math500`, `aime24`,
    `aime25`, `olympiadbench`, `gpqa-diamond`, `lcb-v5`, `lcb-v5-window`, `lcb-v6`, `lcb-pro`,
    `ojbench`."""
    data: Path | None = None
    """Local file of a benchmark that is given by its name, or a folder with its files; None: from
    the Hugging Face hub."""
    out: Path
    """Run directory; created if it does not exist."""
    samples: int = Field(default=1, ge=1)
    """Number of responses per problem; each has one attempt."""
    judge: Literal["maths", "choice", "exact", "numbers", "olympiad"] | None = None
    """Judge of the answers (`numbers`: numbers in the order of the reference); None: that of the
    benchmark, or `choice` for problems with choices and `maths` for others."""
    instruction: str | None = None
    """Text added to each problem after a blank line; None: that of the benchmark."""
    judge_workers: int | None = Field(default=None, ge=1)
    """Programs that are judged at a time; None: one per CPU core."""
    judge_python: Path | None = None
    """Python interpreter of the programs that are judged; None: the system's `python3`."""
    allow_unsafe_judging: bool = False
    """Run programs of the model although no sandbox works here; they can then read and change your
    files."""
    checkpoints: bool = False
    """Evaluate each `checkpoint-*` folder in `model`, with a run directory in `out` for each."""
    allow_unscored: bool = False
    """Exit with status 0 although some responses have no score, because of a failed server or
    judge."""
    sampling: EvaluationSampling = EvaluationSampling()
    """Sampling parameters."""


class JudgeConfig(Config):
    """Pass responses of an evaluation to the benchmark's official judge, and read its verdicts.

    Benchmarks with such a judge are `ojbench`, `lcb-pro` (interactive problems) and, for its own
    scores, `lcb-v5`, `lcb-v5-window` and `lcb-v6`.
    """

    run: Path
    """Directory of an evaluation."""
    export: Path | None = None
    """Write the responses that wait for verdicts into this file, in the format of the judge."""
    verdicts: Path | None = None
    """Read the verdicts in this file, and update the scores of the run."""
    url: str | None = Field(default=None, min_length=1)
    """Let the server at this URL judge the responses (`lcb-pro`: LightCPVerifier), and update the
    scores."""
