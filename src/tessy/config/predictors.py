"""What the commands can be told that make boundary predictors: sample, annotate, train, evaluate.

Each reads what the one before it wrote, for one of the two models at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tessy.config.synthesis import (
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
    """How responses for annotation are drawn."""

    temperature: float = Field(default=0.95, ge=0)
    """Divides the logits; 0 always takes the likeliest token (no unit)."""


class SampleConfig(RunOptions, ModelConfig):
    """Sample one model's own responses: what its boundary predictor will learn from.

    Run it once for the student and once for the teacher. It can be stopped at any time; the same
    command goes on where it ended.
    """

    author: Author
    """Whose responses these are: `student` or `teacher`."""
    out: Path
    """The run directory; made if it does not exist."""
    sampling: ResponseSampling = ResponseSampling()
    """How it draws its tokens."""
    thinking_tokens: int = Field(default=32_000, ge=1)
    """Longest thinking, in the model's tokens."""
    answer_tokens: int = Field(default=6_000, ge=1)
    """Longest answer, in the model's tokens."""
    no_ids: bool = False
    """Leave the student's token ids out of the rows; a teacher's ids are never there."""


class AnnotateConfig(Config):
    """Have a strong model mark the style in segments of sampled thinking.

    It can be stopped at any time; the same command goes on where it ended.
    """

    responses: Path
    """The run directory `sample` made."""
    out: Path
    """The directory of annotations; made if it does not exist."""
    model: str | None = Field(default=None, min_length=1)
    """The annotator: the name its server uses."""
    url: CommaList = ()
    """URLs of servers with a chat endpoint, one per replica, separated by commas."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's API key."""
    sampling: SamplingConfig = SamplingConfig()
    """How the annotator draws its tokens."""
    rule: str | None = Field(default=None, min_length=1)
    """A function `module:callable` that marks the style in place of a model."""
    segments: int = Field(default=10_000, ge=1)
    """Segments to annotate over all responses."""
    segment_words: int = Field(default=60, ge=1)
    """Length of a segment in words; a shorter thinking is one segment."""
    segments_per_response: int = Field(default=100, ge=1)
    """Segments taken of one response at most."""
    concurrency: int = Field(default=32, ge=1)
    """Requests in flight on each server."""
    seed: int = Field(default=0, ge=0)
    """Seed of which segments are drawn, and of the annotator."""
    fresh: bool = False
    """Start over; what the directory holds is moved to `<directory>.old-1` (-2, …)."""
    retry_failed: bool = False
    """Try segments again that failed in an earlier run of this directory."""
    server_patience_seconds: float = Field(default=1800, gt=0)
    """Seconds a server may be out of reach before the run gives up."""


class TrainPredictorConfig(Config):
    """Train a boundary predictor on annotated segments."""

    annotations: Path
    """The directory `annotate` made."""
    out: Path
    """Folder for the checkpoint; must not exist, or be empty."""
    base: str = Field(default="Qwen/Qwen3-0.6B-Base", min_length=1)
    """The causal language model it starts from: hub id or local folder."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the segments; the best one by validation accuracy is kept."""
    batch: int = Field(default=32, ge=1)
    """Segments per optimizer step, over all devices."""
    learning_rate: float = Field(default=1e-5, gt=0, le=1)
    """Peak learning rate of AdamW (no unit)."""
    max_tokens: int = Field(default=512, ge=8)
    """Longest input in tokens; what a segment has beyond is cut off."""
    style_weight: float = Field(default=1.0, gt=0)
    """Weight of style tokens in the loss; capability tokens have 1."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the questions whose segments choose the best epoch."""
    test_share: float = Field(default=0.05, ge=0, lt=0.5)
    """Share of the questions whose segments are kept for `evaluate-predictor`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split, of new weights and of the order of segments."""
    trust_remote_code: bool = False
    """Run Python code that comes with the base model; only for sources you trust."""


class EntropyConfig(Config):
    """The entropy rule: a boundary where a language model is unsure of the next token."""

    model: str | None = Field(default=None, min_length=1)
    """A causal language model: hub id, local folder, or the name its server uses; None: no rule."""
    tokenizer: str | None = None
    """Hub id or folder of the tokenizer, where it is not that of `model`."""
    url: str | None = None
    """URL of a vLLM server (it tells prompt logprobs); None: the model runs in this process."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's API key."""


class EvaluatePredictorConfig(Config):
    """Measure how well boundary predictors cut, on annotated segments they have not seen."""

    annotations: Path
    """The directory `annotate` made."""
    predictor: CommaList
    """What to measure: checkpoints, `lexicon`, `sentence`, `module:callable`; a pair is B_S+B_T."""
    out: Path
    """Directory for evaluation.json and evaluation.svg; made if it does not exist."""
    part: Literal["train", "validation", "test", "all"] = "test"
    """Which questions' segments, by the split the first checkpoint was trained with."""
    draft_tokens: int = Field(default=20, ge=1)
    """Tokens of a simulated draft (the paper: 20)."""
    positions: int = Field(default=2_000, ge=1)
    """Random positions from which drafts are cut."""
    window: PredictorWindow = "anchored"
    """What a checkpoint reads: up to 512 tokens that grow (fast), or always the last 200."""
    cut: Literal["discard", "extend"] = "discard"
    """What becomes of a word with tokens of both classes: dropped, or kept when it begins well."""
    limit: int | None = Field(default=None, ge=1)
    """Take only this many segments; None: all."""
    entropy: EntropyConfig = EntropyConfig()
    """A rule to compare with, by a language model's entropy."""
    seed: int = Field(default=0, ge=0)
    """Seed of the positions."""
