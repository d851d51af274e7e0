"""Options of the commands for boundary predictors: sample, annotate, train and evaluate.

Each reads the output of the one before it, for one of the two models at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tessy.config.base import (
    CommaList,
    Config,
    ModelConfig,
    PredictorWindow,
    RunOptions,
    SamplingConfig,
)
from tessy.core.records import Author

SplitPart = Literal["train", "validation", "test"]


class ResponseSampling(SamplingConfig):
    """Sampling of responses for annotation."""

    temperature: float = Field(default=0.95, ge=0)
    """Sampling temperature; 0 is greedy."""


class SampleConfig(RunOptions, ModelConfig):
    """Sample a model's own responses, for training its boundary predictor.

    Run it once for the student and once for the teacher. It can be interrupted at any time; the
    same command resumes it.
    """

    author: Author
    """Role of the model."""
    out: Path
    """Run directory; created if it does not exist."""
    sampling: ResponseSampling = ResponseSampling()
    """Sampling parameters."""


class AnnotateConfig(Config):
    """Mark the style in segments of sampled thinking with a strong model.

    It can be interrupted at any time; the same command resumes it.
    """

    responses: Path
    """Run directory of `sample`."""
    out: Path
    """Directory for the annotations; created if it does not exist."""
    model: str | None = Field(default=None, min_length=1)
    """Name of the annotator model on its servers."""
    url: CommaList = ()
    """URLs of servers with a chat endpoint, one per replica, separated by commas."""
    api_key_env: str | None = None
    """Environment variable that holds the API key of the servers."""
    sampling: SamplingConfig = SamplingConfig()
    """Sampling parameters of the annotator."""
    rule: str | None = Field(default=None, min_length=1)
    """A function `module:callable` that marks the style instead of a model."""
    segments: int = Field(default=10_000, ge=1)
    """Number of segments to annotate, over all responses."""
    segment_words: int = Field(default=60, ge=1)
    """Length of a segment in words; a shorter thinking is one segment."""
    segments_per_response: int = Field(default=100, ge=1)
    """Maximum number of segments per response."""
    concurrency: int = Field(default=32, ge=1)
    """Maximum concurrent requests per server."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the choice of segments, and of the annotator."""
    fresh: bool = False
    """Start over; existing contents are moved to `<directory>.old-1` (-2, …)."""
    retry_failed: bool = False
    """Retry segments that failed in an earlier run of this directory."""
    server_patience_seconds: float = Field(default=1800, gt=0)
    """Seconds that a server may be unreachable before the run aborts."""


class TrainPredictorConfig(Config):
    """Train a boundary predictor on annotated segments."""

    annotations: Path
    """Output directory of `annotate`."""
    out: Path
    """Folder for the checkpoint; must not exist, or be empty."""
    base: str = Field(default="Qwen/Qwen3-0.6B-Base", min_length=1)
    """The causal language model to start from: hub id or local folder."""
    epochs: int = Field(default=3, ge=1)
    """Maximum passes over the segments; the best epoch by validation accuracy is kept."""
    batch: int = Field(default=32, ge=1)
    """Segments per optimizer step, over all devices."""
    learning_rate: float = Field(default=1e-5, gt=0, le=1)
    """Peak learning rate of AdamW."""
    max_tokens: int = Field(default=512, ge=8)
    """Maximum input length in tokens; longer segments are truncated."""
    style_weight: float = Field(default=1.0, gt=0)
    """Weight of style tokens in the loss; capability tokens have weight 1."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of problems held out to select the best epoch."""
    test_share: float = Field(default=0.05, ge=0, lt=0.5)
    """Share of problems held out for `evaluate-predictor`."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the split, of new weights and of the order of segments."""
    trust_remote_code: bool = False
    """Run Python code that comes with the base model; only for sources you trust."""


class EntropyConfig(Config):
    """The entropy rule: a boundary where a language model's next-token entropy is high."""

    model: str | None = Field(default=None, min_length=1)
    """A causal language model: hub id, local folder, or its name on the server; None: no rule."""
    tokenizer: str | None = None
    """Hub id or folder of the tokenizer; None: that of `model`."""
    url: str | None = None
    """URL of a vLLM server, for prompt logprobs; None: the model runs in this process."""
    api_key_env: str | None = None
    """Environment variable that holds the server's API key."""


class EvaluatePredictorConfig(Config):
    """Evaluate how accurately boundary predictors cut, on held-out annotated segments."""

    annotations: Path
    """Output directory of `annotate`."""
    predictor: CommaList
    """Predictors: checkpoints, `lexicon`, `sentence`, `module:callable`; a pair is B_S+B_T."""
    out: Path
    """Directory for evaluation.json and evaluation.svg; created if it does not exist."""
    part: Literal["train", "validation", "test", "all"] = "test"
    """Part of the problems to evaluate on, by the training split of the first checkpoint."""
    draft_tokens: int = Field(default=20, ge=1)
    """Length of a simulated draft in tokens (20 in the paper)."""
    positions: int = Field(default=2_000, ge=1)
    """Number of random positions at which drafts start."""
    window: PredictorWindow = "anchored"
    """Input of a checkpoint: a growing window of up to 512 tokens (fast), or the last 200."""
    cut: Literal["discard", "extend"] = "discard"
    """What happens to a word with tokens of both classes: `discard` drops it, `extend` keeps it if
    its first token is in the author's class."""
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of segments; None: all."""
    entropy: EntropyConfig = EntropyConfig()
    """A baseline that cuts by a language model's entropy."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the positions."""
