"""What a longer context costs the client: ``python -m benchmarks.bench_growth``.

CPU time of one draft (a streamed span) with so much context before it, and the memory of many
samples in flight. Simulated servers over real sockets.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.arguments import count, new_file, positive, whole_number
from benchmarks.clients import (
    ClientTask,
    pair_options,
    send,
    send_undisturbed,
    slow_down_for,
    warm_up_for,
)
from benchmarks.cooperation_client import Plan
from benchmarks.measurement import Measured
from benchmarks.processes import command
from benchmarks.simulated_server import running
from benchmarks.table import growth_table
from benchmarks.words import make_model_folder
from benchmarks.workload import Workload
from tessy.core.records import Author

# The cost of a packet falls with their rate: one wake-up handles several, and caches stay warm.
# This is the highest rate that two cores allow.
SAMPLES = 64
SLOW_DOWN = 1.5


def draft_cost(
    options: argparse.Namespace, folder: Path, context_tokens: int
) -> dict[str, float | None]:
    """Measure the CPU time of a draft after ``context_tokens`` tokens of thinking."""
    workload = Workload(thinking_tokens=0, context_tokens=context_tokens)
    plan = Plan(
        concurrency=options.samples,
        warm_up_seconds=options.warm_up,
        seconds=options.seconds,
        slow_down=options.slow_down,
        workload=workload,
        count_arrivals=False,
    )
    found = _measure(folder, plan, send_undisturbed)
    return {
        "cpu_us_per_draft": 1e6 * found.cpu_seconds / max(1, found.requests),
        "cpu_us_per_kept": 1e6 * found.cpu_seconds / max(1, found.kept),
        "predictor_tokens_per_kept": found.predictor_tokens / max(1, found.kept),
        "slowed_tokens_per_s": found.kept / found.seconds,
        "requests_per_1k_kept": 1000 * found.requests / max(1, found.kept),
        "cpu_load": results.cpu_load(found),
        "stolen_cpu": results.stolen_share(found),
    }


def memory(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Measure the peak memory of a client with many samples at random progress, and with one."""
    found = {}
    for samples in (1, options.memory_samples):
        slow_down = slow_down_for(samples)
        plan = Plan(
            concurrency=samples,
            warm_up_seconds=warm_up_for(slow_down, options.warm_up),
            seconds=options.seconds,
            slow_down=slow_down,
        )
        found[str(samples)] = _measure(folder, plan, send).peak_rss_mib
    return found


def _measure(
    folder: Path, plan: Plan, measure_client: Callable[[ClientTask], Measured]
) -> Measured:
    with running(folder, pair_options(plan)) as servers:
        both: dict[Author, Path] = {"student": folder, "teacher": folder}
        return measure_client(ClientTask("ours", plan, both, urls=servers.urls))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--context",
        type=whole_number,
        nargs="+",
        default=[1000, 8000, 16000, 32000],
        help="tokens (default: 1000 8000 16000 32000)",
    )
    parser.add_argument(
        "--samples",
        type=whole_number,
        default=SAMPLES,
        help="samples in flight for the CPU time (default: %(default)s)",
    )
    parser.add_argument(
        "--memory-samples",
        type=count,
        default=1000,
        help="samples in flight for the memory (default: %(default)s); 0: skip",
    )
    parser.add_argument("--json", type=new_file, help="file for all measurements")
    parser.add_argument(
        "--slow-down",
        type=positive,
        default=SLOW_DOWN,
        help="factor on the servers' times (default: %(default)s)",
    )
    parser.add_argument(
        "--warm-up",
        type=positive,
        default=10.0,
        help="seconds before each window (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        default=15.0,
        help="length of each window (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=whole_number,
        default=3,
        help="measurements of each context (default: %(default)s)",
    )
    return parser


def _rounds(
    options: argparse.Namespace, folder: Path
) -> Generator[dict[str, dict[str, Any]], None, None]:
    """Yield the figures of each context after each round.

    The order alternates, so that a host that becomes slower or faster affects all contexts alike.
    """
    columns: dict[int, list[dict[str, float | None]]] = {tokens: [] for tokens in options.context}
    for number in range(options.rounds):
        for tokens in options.context[:: -1 if number % 2 else 1]:
            found = draft_cost(options, folder, tokens)
            columns[tokens].append(found)
            results.print_figures(f"{tokens} tokens, round {number + 1}", found)
        yield {
            str(tokens): {**results.medians(column), "rounds": column}
            for tokens, column in columns.items()
        }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table and write a file."""
    options = _parser().parse_args(arguments)
    document = results.header(options)
    with tempfile.TemporaryDirectory(prefix="tessy-bench-") as scratch:
        folder = make_model_folder(Path(scratch) / "model")
        for columns in _rounds(options, folder):
            document["context"] = columns
            results.write(document, options.json)
        if options.memory_samples:
            document["peak_rss_mib"] = memory(options, folder)
            results.write(document, options.json)
    print(growth_table(document))
    for samples, mebibytes in document.get("peak_rss_mib", {}).items():
        print(f"{samples} samples in flight: {mebibytes:,.0f} MiB")


if __name__ == "__main__":
    command(main)
