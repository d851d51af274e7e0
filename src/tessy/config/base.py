"""Options shared by several commands, as frozen models; the docstring of a field is its help text.

:mod:`tessy.config.toml` loads them from a TOML file and the command line.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Config(BaseModel):
    """Base of all configurations: immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _split_commas(value: object) -> object:
    """Return ``("a", "b")`` for ``"a,b"``; other values are left to pydantic."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def _paths(value: object) -> object:
    """Return ``("a",)`` for a single path ``"a"``."""
    names = [value] if isinstance(value, str | Path) else value
    return tuple(map(str, names)) if isinstance(names, list | tuple) else value


PathList = Annotated[tuple[Path, ...], BeforeValidator(_paths)]
CommaList = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]


class SamplingConfig(Config):
    """Sampling parameters of a model."""

    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(default=0.8, gt=0, le=1)
    """Nucleus sampling: cumulative probability of the tokens to draw from."""
    top_k: int = Field(default=20, ge=0)
    """Number of likeliest tokens to draw from; 0 for no limit."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Minimum probability of a token, relative to the likeliest token."""


class ModelConfig(Config):
    """A model, on servers or in this process."""

    model: str = Field(min_length=1)
    """Name of the model on its server, hub id, or local folder."""
    tokenizer: str | None = None
    """Hub id or folder of the tokenizer; None: that of `model`."""
    url: CommaList = ()
    """Server URLs, one per replica, separated by commas; None: the model runs in this process."""
    api_key_env: str | None = None
    """Environment variable that holds the server's API key."""
    sampling: SamplingConfig = SamplingConfig()
    """Sampling parameters."""
    context_tokens: int | None = Field(default=None, ge=1)
    """Context length of the model in tokens; None: as reported by the server."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for sources you trust."""
    reasoning_effort: str = Field(default="high", min_length=1)
    """Reasoning effort (low, medium, high), for chat templates with this setting."""
    force_thinking: bool = False
    """Accept a chat template that never mentions thinking; only for models trained to think."""


PredictorWindow = Literal["anchored", "sliding-200"]


class RoleConfig(ModelConfig):
    """One of the two models, with its boundary predictor."""

    predictor: str = Field(default="lexicon", min_length=1)
    """Boundary predictor: `lexicon`, a checkpoint (folder or hub id), or `module:callable`."""
    window: PredictorWindow = "anchored"
    """Input of a checkpoint: a growing window of up to 512 tokens (fast), or the last 200."""
    draft_tokens: int | None = Field(default=None, ge=1)
    """Tokens per request (20 in the paper); None: one stream per span, stopped at the boundary."""


class ProblemOptions(Config):
    """Options of the commands that read problems."""

    problems: PathList = Field(min_length=1)
    """Files of problems (.jsonl, .json, .csv, .parquet), globs, folders of data sets, or
    `hf://datasets/OWNER/NAME[@REVISION][/PATH]`."""
    split: str | None = Field(default=None, min_length=1)
    """Split of these data sets, such as train; None: the only one."""


class GenerationOptions(Config):
    """Options of the commands that generate text for problems."""

    thinking_tokens: int = Field(default=32_000, ge=1)
    """Maximum thinking length in tokens, of the student or of the only model."""
    answer_tokens: int = Field(default=6_000, ge=1)
    """Maximum answer length in tokens, of the student or of the only model."""
    limit: int | None = Field(default=None, ge=1)
    """Use only this many problems, from the start of the file; None: all."""
    concurrency: int | None = Field(default=None, ge=1)
    """Maximum concurrent samples; None: as many as fit into the servers' KV cache, and 128 of a
    model in this process."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the run."""
    date: datetime.date | None = None
    """Date that chat templates print, as YYYY-MM-DD; None: the day on which the run began."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Map field names of the files to tessy's: `prompt=question,id=uid`; a name may be a path
    (`reference=reward_model.ground_truth`) or quoted (`prompt="Question, en"`)."""
    skip_bad_rows: bool = False
    """Skip invalid rows of the file and record the reasons, instead of stopping."""
    fresh: bool = False
    """Start over; an existing run is moved to `<directory>.old-1` (-2, …)."""
    retry_failed: bool = False
    """Retry samples that failed in an earlier session of this run."""
    server_patience_seconds: float = Field(default=1800, gt=0)
    """Seconds without a reply from any server of a role before the run aborts."""


class RunOptions(GenerationOptions, ProblemOptions):  # their fields in reverse
    """Options of the commands that generate samples."""

    samples_per_problem: int = Field(default=1, ge=1)
    """Number of samples per problem."""
    attempts: int = Field(default=5, ge=1)
    """Maximum attempts per sample, each with a different seed."""
    no_ids: bool = False
    """Omit the student's token ids from the rows; a teacher's ids are never stored."""
