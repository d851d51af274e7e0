"""The in-process engine beside a plain batched sampler, with the bundled student.

    python -m benchmarks.bench_local_engine [--streams 32 128] [--json FILE]

Both generate the same number of tokens from the same prompts, without an end of the text, and take
turns; ratios are computed within a round. Then whole runs of ``tessy synthesize`` with the bundled
models: tokens per CPU second beyond those of a run of one problem, so without start-up. CPU time is
of all threads; torch uses one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from transformers import DynamicCache, PreTrainedModel

from benchmarks.arguments import count, new_file, whole_number
from benchmarks.processes import command
from benchmarks.results import header, write
from tessy.core.formatting import markdown_table
from tessy.inference.base import Chunk, ChunkSink, Request, Sampling
from tessy.inference.local.engine import LocalEngine
from tessy.inference.local.model import load_model
from tessy.lab.bundled import (
    ANSWER_TOKENS,
    THINKING_TOKENS,
    demo_problems,
    model_path,
    predictor_path,
    student_path,
)
from tessy.storage.run_paths import RunPaths
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import TokenIds

SAMPLING = Sampling()
Prompts = Sequence[Sequence[int]]
Spread = tuple[float, float, float]  # median, minimum, maximum
WAYS = ("plain sampler", "in-process engine")
STRATEGIES = ("student-only", "tessy")
_TESSY = "import sys; from tessy.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class EngineRow:
    """Generation by one way; tokens per CPU second, and the plain sampler's divided by them."""

    streams: int
    way: str
    tokens_per_cpu_s: Spread
    slower: Spread


@dataclass(frozen=True, slots=True)
class RunRow:
    """A whole run of one strategy: its tokens per CPU second, without start-up."""

    strategy: str
    tokens_per_cpu_s: Spread


@torch.inference_mode()
def sample_plainly(model: PreTrainedModel, prompts: Prompts, tokens: int) -> int:
    """Continue all prompts as one left-padded batch; return the number of tokens drawn."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + [*prompt] for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    mask = (torch.arange(longest) >= longest - lengths[:, None]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    drawn = 0
    for _ in range(tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        ids = torch.multinomial(torch.softmax(logits / SAMPLING.temperature, -1), 1)
        mask = torch.cat((mask, mask.new_ones(len(prompts), 1)), -1)
        positions = positions[:, -1:] + 1
        drawn += len(ids.tolist())
    return drawn


async def stream_all(engine: LocalEngine, prompts: Prompts, tokens: int) -> int:
    """Continue all prompts as concurrent streams of the engine; return the tokens received."""
    received = 0

    def put(chunk: Chunk) -> None:
        nonlocal received
        received += len(chunk.ids)

    async def stream(number: int) -> None:
        key = str(number)
        prompt = TokenIds(prompts[number])
        await engine.stream(Request(key, prompt, SAMPLING, tokens, (), number), ChunkSink(put))
        engine.release(key)

    await asyncio.gather(*map(stream, range(len(prompts))))
    return received


def compare_engine(streams: Sequence[int], tokens: int, rounds: int) -> list[EngineRow]:
    """Measure the plain sampler and the engine in turn, ``rounds`` times after a warm-up."""
    model = load_model(student_path(), device="cpu")
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    renderer = load_renderer(str(student_path()))
    rows = []
    for number in streams:
        problems = demo_problems(number, seed=0)
        prompts = [renderer.prompt_ids(problem.messages) for problem in problems]
        engine = LocalEngine(model, name="student", max_batch=number)
        with asyncio.Runner() as runner:

            def run_engine(tokens: int) -> int:
                return runner.run(stream_all(engine, prompts, tokens))  # noqa: B023

            def run_plain(tokens: int) -> int:
                return sample_plainly(model, prompts, tokens)  # noqa: B023

            ways = dict(zip(WAYS, (run_plain, run_engine), strict=True))
            speeds: dict[str, list[float]] = {way: [] for way in WAYS}
            for way in ways.values():
                way(8)
            for _ in range(rounds):
                for name, way in ways.items():
                    speeds[name].append(_tokens_per_cpu_second(way, tokens, number))
            runner.run(engine.aclose())
        for name, speed in speeds.items():
            pairs = zip(speeds["plain sampler"], speed, strict=True)
            slower = _spread([plain / own for plain, own in pairs])
            rows.append(EngineRow(number, name, _spread(speed), slower))
    return rows


def _tokens_per_cpu_second(way: Callable[[int], int], tokens: int, streams: int) -> float:
    started = time.process_time()
    generated = way(tokens)
    seconds = time.process_time() - started
    assert generated == streams * tokens
    return generated / seconds


def measure_runs(problems: int, rounds: int) -> list[RunRow]:
    """Measure whole runs with the bundled models."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problems.jsonl"
        write_problems(file, problems)
        for strategy in STRATEGIES:
            speeds = []
            for _ in range(rounds):
                first_seconds, first_tokens = synthesize(file, strategy, 1)
                seconds, tokens = synthesize(file, strategy, problems)
                speeds.append((tokens - first_tokens) / (seconds - first_seconds))
            rows.append(RunRow(strategy, _spread(speeds)))
    return rows


def write_problems(file: Path, count: int) -> None:
    """Write problems for the bundled models."""
    with file.open("w", encoding="utf-8") as lines:
        for problem in demo_problems(count, seed=0):
            lines.write(problem.model_dump_json(include={"id", "messages"}) + "\n")


def synthesize(file: Path, strategy: str, limit: int) -> tuple[float, int]:
    """Run ``tessy synthesize`` on the first problems; return its CPU seconds and tokens."""
    out = file.parent / "run"
    options: dict[str, object] = {
        "problems": file,
        "out": out,
        "strategy": strategy,
        "limit": limit,
        "thinking-tokens": THINKING_TOKENS,
        "answer-tokens": ANSWER_TOKENS,
    }
    for author in ("student", "teacher"):
        options[f"{author}.model"] = model_path(author)
        options[f"{author}.predictor"] = predictor_path(author)
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    before = _children_seconds()
    subprocess.run(
        [sys.executable, "-c", _TESSY, "synthesize", *arguments, "--fresh"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    generated = json.loads(RunPaths(out).summary.read_bytes())["tokens"]["generated"]
    return _children_seconds() - before, sum(generated.values())


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _spread(values: Sequence[float]) -> Spread:
    return median(values), min(values), max(values)


def _cell(spread: Spread, form: str) -> str:
    middle, low, high = (format(value, form) for value in spread)
    return f"{middle} ({low}–{high})"


def print_engine(rows: Sequence[EngineRow]) -> None:
    """Print the rows as a Markdown table."""
    cells = [
        (f"{r.streams}", r.way, _cell(r.tokens_per_cpu_s, ",.0f"), _cell(r.slower, ".2f"))
        for r in rows
    ]
    print(markdown_table(("streams", "generation", "tokens/CPU s", "plain sampler / this"), cells))


def print_runs(rows: Sequence[RunRow]) -> None:
    """Print the rows as a Markdown table."""
    cells = [(row.strategy, _cell(row.tokens_per_cpu_s, ",.0f")) for row in rows]
    print(markdown_table(("tessy synthesize --strategy", "tokens/CPU s"), cells))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=whole_number, nargs="+", default=[1, 32, 128])
    parser.add_argument("--tokens", type=whole_number, default=128, help="tokens of each stream")
    parser.add_argument(
        "--problems", type=count, default=600, help="problems of each run; 0: no runs"
    )
    parser.add_argument("--rounds", type=whole_number, default=3)
    parser.add_argument("--json", type=new_file, help="file for the rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine_rows = compare_engine(options.streams, options.tokens, options.rounds)
    print_engine(engine_rows)
    run_rows: list[RunRow] = []
    if options.problems:
        run_rows = measure_runs(options.problems, options.rounds)
        print_runs(run_rows)
    document = {
        **header(options),
        "torch": torch.__version__,
        "engine": [asdict(row) for row in engine_rows],
        "runs": [asdict(row) for row in run_rows],
    }
    write(document, options.json)


if __name__ == "__main__":
    command(main)
