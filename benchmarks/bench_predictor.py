"""Boundary predictors: each token read once, compared with the whole window each time.

    python -m benchmarks.bench_predictor [--samples 1 16 64] [--json FILE]

Texts of many samples grow side by side, a few words at a time, with a rollback of one word now and
then. All ways of reading receive the same requests and take turns; ratios are computed within a
round. Weights are random, because the time does not depend on them. Torch uses one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from benchmarks.arguments import new_file, whole_number
from benchmarks.processes import command
from benchmarks.results import header, write
from tessy.boundary.base import Prediction, PredictionRequest
from tessy.boundary.classifier.kv_cache import make_window_model
from tessy.boundary.classifier.model import Classifier, load_classifier
from tessy.boundary.classifier.predictor import TokenClassifierPredictor, padding_slack
from tessy.boundary.classifier.window import TokenizedText, WindowRule
from tessy.core.edges import edges
from tessy.lab.bundled import student_path
from tessy.tokenization.codec import HfCodec

_SIZES: dict[str, dict[str, int]] = {
    "2 layers x 96": {},  # the bundled models
    "4 layers x 256": {
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "Qwen3-0.6B's": {
        "num_hidden_layers": 28,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}
_ON_CPU = list(_SIZES)[:2]
_TEXT = (
    "Okay so let me see the total number of apples is 12 plus 7 equals 19 wait hmm that means we "
    "have to take away half of them and then add 3 more which gives 15 therefore the answer is"
)
_WORDS = _TEXT.split()
_WORDS_AT_ONCE = 3
_ROLLBACK_EVERY = 6  # requests; a span has about 19 or 6 tokens
Predict = Callable[[PredictionRequest], Awaitable[Prediction]]


@dataclass(frozen=True, slots=True)
class Samples:
    """The predicted texts; the first request of each sample is not timed.

    Attributes:
        requests: Requests of each sample, in order.
        new_tokens: Tokens by which all texts grow, without those rolled back.
    """

    requests: list[list[PredictionRequest]]
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of one way of reading.

    Attributes:
        seconds: Wall time.
        cpu_seconds: CPU time.
        tokens_read: Tokens that went through the classifier.
    """

    seconds: float
    cpu_seconds: float
    tokens_read: int


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; medians over the rounds.

    Attributes:
        model: Size of the classifier.
        samples: Samples predicted side by side.
        reading: Way of reading windows.
        tokens_per_s: New tokens classified per second.
        read_per_new: Tokens read per new token.
        cpu_ms_per_new: CPU time (ms) per new token.
        speed_ratio: Speed of ``incremental`` divided by this one; median, minimum and maximum.
    """

    model: str
    samples: int
    reading: str
    tokens_per_s: float
    read_per_new: float
    cpu_ms_per_new: float
    speed_ratio: tuple[float, float, float]


def make_samples(codec: HfCodec, rule: WindowRule, count: int, growth: int) -> Samples:
    """Return texts between two moves of the anchor, which grow by ``growth`` tokens."""
    requests, new_tokens = [], 0
    for number in range(count):
        draw = random.Random(number)
        start = rule.limit + draw.randrange(rule.limit - rule.keep)
        text = draw.choice(_WORDS)
        reading = TokenizedText(codec, rule)
        while len(reading.ids) < start:
            text += f" {draw.choice(_WORDS)}"
            reading.update(text)
        first = len(reading.ids)
        own = [_request(text, str(number))]
        while len(reading.ids) < first + growth:
            if len(own) % _ROLLBACK_EVERY == 0:
                text = text[: text.rindex(" ")]
            for _ in range(_WORDS_AT_ONCE):
                text += f" {draw.choice(_WORDS)}"
            reading.update(text)
            own.append(_request(text, str(number)))
        new_tokens += len(reading.ids) - first
        requests.append(own)
    return Samples(requests, new_tokens)


def _request(text: str, key: str) -> PredictionRequest:
    return PredictionRequest(key, text, tuple(edges(text)[-_WORDS_AT_ONCE - 1 :]))


async def warm_up(samples: Samples, predict: Predict) -> None:
    """Run the requests that are not timed."""
    await asyncio.gather(*(predict(requests[0]) for requests in samples.requests))


async def time_requests(samples: Samples, predict: Predict) -> tuple[float, float]:
    """Measure wall and CPU seconds of the other requests."""

    async def follow(requests: Sequence[PredictionRequest]) -> None:
        for request in requests:
            await predict(request)

    started, cpu_started = time.perf_counter(), time.process_time()
    await asyncio.gather(*(follow(requests[1:]) for requests in samples.requests))
    return time.perf_counter() - started, time.process_time() - cpu_started


async def in_process(classifier: Classifier, samples: Samples, reading: str) -> Round:
    """Predict ``samples`` in this process."""
    rule = classifier.rule.as_sliding() if reading == "sliding-200" else classifier.rule
    model = make_window_model(classifier.scorer, rule)
    if reading == "whole window":
        model = classifier.scorer
    slack = padding_slack(classifier.scorer.model.device.type)
    predictor = TokenClassifierPredictor(
        model, classifier.codec, name=reading, rule=rule, slack=slack
    )
    try:
        await warm_up(samples, predictor.predict)
        before = predictor.stats.tokens
        seconds, cpu_seconds = await time_requests(samples, predictor.predict)
        return Round(seconds, cpu_seconds, predictor.stats.tokens - before)
    finally:
        await predictor.aclose()


def measure(classifier: Classifier, size: str, samples: Samples, rounds: int) -> list[Row]:
    """Measure all ways of reading in turn, ``rounds`` times."""
    ways = ("incremental", "whole window", "sliding-200")
    found: dict[str, list[Round]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, results in found.items():
            results.append(asyncio.run(in_process(classifier, samples, way)))
    new = samples.new_tokens
    rows = []
    for way, results in found.items():
        pairs = zip(found["incremental"], results, strict=True)
        ratios = [other.seconds / incremental.seconds for incremental, other in pairs]
        rows.append(
            Row(
                model=size,
                samples=len(samples.requests),
                reading=way,
                tokens_per_s=new / statistics.median(r.seconds for r in results),
                read_per_new=statistics.median(r.tokens_read for r in results) / new,
                cpu_ms_per_new=1000 * statistics.median(r.cpu_seconds for r in results) / new,
                speed_ratio=(statistics.median(ratios), min(ratios), max(ratios)),
            )
        )
    return rows


def make_checkpoint(folder: Path, changes: dict[str, int]) -> Path:
    """Make a random token classifier in the bundled models' shape with ``changes``."""
    config = AutoConfig.from_pretrained(student_path())
    layers = changes.get("num_hidden_layers", config.num_hidden_layers)
    config.update({**changes, "num_labels": 2, "layer_types": ["full_attention"] * layers})
    torch.manual_seed(0)
    make: Any = AutoModelForTokenClassification  # untyped
    make.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(student_path()).save_pretrained(folder)
    return folder


def print_heading() -> None:
    """Print the head of a Markdown table."""
    print("| classifier | samples | reading | new tokens/s | read per new token ", end="")
    print(
        "| CPU ms per new token | incremental is faster by (range) |\n|---|---|---|---|---|---|---|"
    )


def print_rows(rows: Sequence[Row]) -> None:
    """Print the rows as Markdown."""
    for row in rows:
        middle, low, high = row.speed_ratio
        faster = "" if row.reading == "incremental" else f"{middle:.1f} ({low:.1f}–{high:.1f})"
        print(
            f"| {row.model} | {row.samples} | {row.reading} | {row.tokens_per_s:,.0f} "
            f"| {row.read_per_new:.2f} | {row.cpu_ms_per_new:.2f} | {faster} |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=whole_number, nargs="+", default=[1, 16, 64])
    parser.add_argument("--growth", type=whole_number, default=96, help="tokens each text grows by")
    parser.add_argument("--rounds", type=whole_number, default=3)
    parser.add_argument(
        "--size",
        choices=list(_SIZES),
        action="append",
        help="size of the classifier (default: those for a CPU)",
    )
    parser.add_argument("--device", default="cpu", help="torch device of the classifier")
    parser.add_argument("--json", type=new_file, help="file for the rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    print_heading()
    with tempfile.TemporaryDirectory() as folder:
        for number, size in enumerate(options.size or _ON_CPU):
            checkpoint = make_checkpoint(Path(folder) / str(number), _SIZES[size])
            classifier = load_classifier(checkpoint, device=options.device)
            for count in options.samples:
                samples = make_samples(classifier.codec, classifier.rule, count, options.growth)
                found = measure(classifier, size, samples, options.rounds)
                print_rows(found)
                rows += found
    if options.json:
        found_rows = [asdict(row) for row in rows]
        document = {**header(options), "torch": torch.__version__, "rows": found_rows}
        write(document, options.json)


if __name__ == "__main__":
    command(main)
