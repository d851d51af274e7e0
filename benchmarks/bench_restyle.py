"""What restyling computes: tokens per kept token, and time beside plain decoding.

    python -m benchmarks.bench_restyle [--candidates 1 4 8 16] [--json FILE]
    python -m benchmarks.bench_restyle --url URL --model NAME --tokenizer FOLDER --traces RUN

Without a server, a scripted student restyles one long trace, and a prefix cache in blocks of 16
tokens counts what a server would compute: prompt tokens that are not cached, generated tokens, and
the tokens of scores. The cache never evicts. With a vLLM server that nobody else uses, its own
counters are read, and the time is compared with plain decoding of as many tokens by as many
streams, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median

import aiohttp

from benchmarks.arguments import new_file, whole_number
from benchmarks.restyled_trace import BLOCK_TOKENS, CachedStudent, context_of, long_trace
from benchmarks.results import header, write
from tessy.config.base import RoleConfig
from tessy.config.synthesis import SynthesizeConfig
from tessy.core.formatting import markdown_table
from tessy.runtime.progress import ProgressState
from tessy.storage.run_reader import iter_trajectories
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.run import run_samples
from tessy.synthesis.strategies.restyle import restyle
from tessy.tokenization.families import load_renderer

_COUNTERS = {
    "prompt": "vllm:prompt_tokens_total",
    "cached": "vllm:prompt_tokens_cached_total",
    "generated": "vllm:generation_tokens_total",
}


@dataclass(frozen=True, slots=True)
class RestyleCost:
    """What restyling with a number of candidates computes; ``time_ratio`` is None if simulated."""

    candidates: int
    kept_tokens: int
    places: int
    prefilled_per_kept: float
    generated_per_kept: float
    time_ratio: float | None = None

    @property
    def computed_per_kept(self) -> float:
        """Prompt tokens that are not cached, and generated tokens, per kept token."""
        return self.prefilled_per_kept + self.generated_per_kept


async def simulated(candidates: int, trace_tokens: int) -> RestyleCost:
    """Restyle one trace of about ``trace_tokens`` with a scripted student."""
    problem = long_trace(trace_tokens)
    student = CachedStudent()
    attempt = SampleAttempt(
        context=context_of(student, candidates),
        problem=problem,
        sample=0,
        number=1,
        save=lambda pieces, state: None,
        checkpoint=lambda: None,
        progress=ProgressState(1, now=0.0),
    )
    row = await restyle(attempt)
    assert row.restyle is not None
    kept = row.tokens.student + row.tokens.teacher + row.tokens.answer
    return RestyleCost(
        candidates,
        kept,
        len(row.restyle.draws),
        student.prefilled / kept,
        student.generated / kept,
    )


def measured(options: argparse.Namespace, candidates: int, round_number: int) -> RestyleCost:
    """Restyle the traces on a server, then decode as many tokens plainly."""
    before = _counters(options.url)
    with tempfile.TemporaryDirectory() as folder:
        config = SynthesizeConfig(
            strategy="restyle",
            traces=options.traces,
            student=RoleConfig(
                model=options.model, url=(options.url,), tokenizer=str(options.tokenizer)
            ),
            candidates=candidates,
            thinking_tokens=options.thinking_tokens,
            answer_tokens=options.answer_tokens,
            concurrency=options.concurrency,
            seed=round_number,
            out=Path(folder) / "run",
        )
        started = time.monotonic()
        run_samples(config)
        seconds = time.monotonic() - started
        rows = list(iter_trajectories(config.out))
    after = _counters(options.url)
    kept = [row.tokens.student + row.tokens.teacher + row.tokens.answer for row in rows]
    plain = asyncio.run(_decode(options, kept))
    used = {name: after[name] - before[name] for name in after}
    return RestyleCost(
        candidates,
        sum(kept),
        sum(len(row.restyle.draws) for row in rows if row.restyle),
        (used["prompt"] - used["cached"]) / sum(kept),
        used["generated"] / sum(kept),
        seconds / plain,
    )


async def _decode(options: argparse.Namespace, lengths: Sequence[int]) -> float:
    """Return the seconds in which the server decodes texts of these lengths."""
    renderer = load_renderer(options.tokenizer)
    ids = renderer.codec.encode("Okay, so let me think about this. ")
    slots = asyncio.Semaphore(options.concurrency)
    rng = Random(0)
    async with aiohttp.ClientSession() as session:

        async def decode(tokens: int) -> None:
            body = {
                "model": options.model,
                "prompt": [*ids, rng.choice(ids)],
                "max_tokens": tokens,
                "ignore_eos": True,
            }
            url = options.url.rstrip("/") + "/v1/completions"
            async with slots, session.post(url, json=body) as response:
                response.raise_for_status()
                await response.read()

        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for tokens in lengths:
                group.create_task(decode(tokens))
        return time.monotonic() - started


def _counters(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url.rstrip("/") + "/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return {
        name: sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith((f"{metric}{{", f"{metric} "))
        )
        for name, metric in _COUNTERS.items()
    }


def table(costs: Sequence[RestyleCost]) -> str:
    """Return the table of docs/performance.md: medians over rounds."""
    rows = []
    for candidates in dict.fromkeys(cost.candidates for cost in costs):
        mine = [cost for cost in costs if cost.candidates == candidates]
        ratios = [cost.time_ratio for cost in mine if cost.time_ratio is not None]
        rows.append(
            (
                str(candidates),
                f"{median(c.kept_tokens for c in mine):,.0f}",
                f"{median(c.places for c in mine):,.0f}",
                f"{median(c.prefilled_per_kept for c in mine):.2f}",
                f"{median(c.generated_per_kept for c in mine):.2f}",
                f"{median(c.computed_per_kept for c in mine):.2f}",
                f"{median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})" if ratios else "",
            )
        )
    names = ("candidates", "kept tokens", "places", "prefilled", "generated", "computed", "time")
    return markdown_table(names, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the figures to ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=whole_number, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--trace-tokens", type=whole_number, default=15_000)
    parser.add_argument("--rounds", type=whole_number, default=3)
    parser.add_argument("--url")
    parser.add_argument("--model", default="student")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--concurrency", type=whole_number, default=8)
    parser.add_argument("--thinking-tokens", type=whole_number, default=32_000)
    parser.add_argument("--answer-tokens", type=whole_number, default=6_000)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args(arguments)
    if options.url is None:
        costs = [asyncio.run(simulated(k, options.trace_tokens)) for k in options.candidates]
    else:
        costs = [
            measured(options, candidates, number)
            for number in range(options.rounds)
            for candidates in options.candidates
        ]
    print(table(costs))
    costs_json = [asdict(cost) for cost in costs]
    write({**header(options), "block_tokens": BLOCK_TOKENS, "costs": costs_json}, options.json)


if __name__ == "__main__":
    main()
