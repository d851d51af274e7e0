"""Two versions of tessy side by side: ``python -m benchmarks.compare_trees --other ../OLD_TREE``.

Clients of both trees take turns on the same simulated servers, each in a process of its own, with
the code and the environment of its tree. Plain decoding by this tree is the limit for both. Each
tree has a window on servers that are slowed down until two cores are not the limit, as in
:mod:`benchmarks.bench_cooperation`, and one on servers at full speed, where the client is the
limit: with at most 100 samples in flight, because more take minutes to start and change nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.arguments import new_file, positive, whole_number
from benchmarks.clients import (
    ClientTask,
    pair_options,
    run,
    send,
    slow_down_for,
    warm_up_for,
    with_seed,
)
from benchmarks.cooperation_client import Plan
from benchmarks.processes import command, ignoring_interrupts
from benchmarks.simulated_server import Running, running
from benchmarks.words import make_model_folder
from benchmarks.workload import Workload
from tessy.core.records import Author

HERE = Path(__file__).parents[1]
_SIDES: tuple[Author, Author] = ("teacher", "student")
_FULL_SPEED_SAMPLES = 100
# Client of a tree without this module, with the names of that version.
_FIRST_CLIENT = """
import dataclasses, json, pathlib, sys
from benchmarks.clients import Errand, run
from benchmarks.ours import Plan
from benchmarks.samples import Workload
task = json.loads(sys.argv[1])
plan = Plan(**{**task["plan"], "workload": Workload(**task["workload"])})
folders = dict.fromkeys(task["urls"], pathlib.Path(task["folder"]))
measured = run(Errand("ours", plan, folders, urls=task["urls"]))
print(json.dumps(dataclasses.asdict(measured)))
"""
ROWS = (
    ("tax", "tax (limit / kept tokens/s)", "{:.3f}"),
    ("kept_tokens_per_s", "kept tokens/s, as without the slow-down", "{:,.0f}"),
    ("sustained_tokens_per_s", "kept tokens/s, servers at full speed", "{:,.0f}"),
    ("client_cpu_us_per_kept", "client CPU, µs per kept token", "{:.1f}"),
    ("sustained_cpu_us_per_kept", "… servers at full speed", "{:.1f}"),
    ("generated_per_kept", "generated per kept token", "{:.3f}"),
    ("requests_per_1k_kept", "requests per 1,000 kept tokens", "{:.1f}"),
    ("peak_rss_mib", "peak memory of the client, MiB", "{:,.0f}"),
    ("cpu_load", "CPU load of client, predictor and servers", "{:.0%}"),
)


@dataclass(frozen=True, slots=True)
class Tree:
    """A version of tessy.

    Attributes:
        name: Its name in tables.
        root: Its files.
        python: Interpreter of its environment.
    """

    name: str
    root: Path
    python: Path

    def measure(self, plan: Plan, folder: Path, urls: Mapping[Author, str]) -> dict[str, Any]:
        """Measure the tree's own client in one window.

        Raises:
            RuntimeError: The client failed.
        """
        print(
            f"{self.name}: {plan.concurrency} samples, "
            f"{plan.warm_up_seconds + plan.seconds:.0f} s, slow-down {plan.slow_down:g}",
            file=sys.stderr,
            flush=True,
        )
        names = ("concurrency", "warm_up_seconds", "seconds", "slow_down")
        task = {
            "plan": {name: getattr(plan, name) for name in names},
            "workload": asdict(plan.workload),
            "folder": str(folder),
            "urls": dict(urls),
        }
        own = self.root / "benchmarks" / Path(__file__).name
        start = ["-m", "benchmarks.compare_trees", "--client"] if own.exists() else None
        with ignoring_interrupts():
            process = subprocess.Popen(
                [str(self.python), *(start or ["-c", _FIRST_CLIENT]), json.dumps(task)],
                cwd=self.root,
                env={**os.environ, "PYTHONPATH": f"{self.root / 'src'}{os.pathsep}{self.root}"},
                stdout=subprocess.PIPE,
                text=True,
            )
        with process:
            try:
                assert process.stdout is not None
                printed = process.stdout.read()
            finally:
                process.kill()
        if not printed:
            raise RuntimeError(f"the client of {self.root} failed; its error is printed above")
        measured: dict[str, Any] = json.loads(printed)
        return measured


def _client(task: Mapping[str, Any]) -> None:
    """Run the client of this tree for :meth:`Tree.measure`."""
    plan = Plan(**{**task["plan"], "workload": Workload(**task["workload"])})
    folders: dict[Author, Path] = dict.fromkeys(_SIDES, Path(task["folder"]))
    print(json.dumps(asdict(run(ClientTask("ours", plan, folders, urls=task["urls"])))))


def compare(options: argparse.Namespace) -> list[dict[str, dict[str, float]]]:
    """Return the figures of every round, by tree."""
    trees = (
        Tree("this", HERE, options.python or HERE / ".venv/bin/python"),
        Tree("other", options.other, options.other_python or options.other / ".venv/bin/python"),
    )
    slowed = _plan(options, options.slow_down or slow_down_for(options.samples))
    quick = replace(_plan(options, 1.0), concurrency=min(options.samples, _FULL_SPEED_SAMPLES))
    rounds = []
    with tempfile.TemporaryDirectory(prefix="tessy-bench-") as scratch:
        folder = make_model_folder(Path(scratch) / "model")
        with (
            running(folder, pair_options(slowed)) as slow_servers,
            running(folder, pair_options(quick)) as quick_servers,
        ):
            for number in range(options.rounds):
                order = trees if number % 2 == 0 else trees[::-1]
                plan = with_seed(slowed, number, real=False)
                fast = with_seed(quick, number, real=False)
                found = {t.name: t.measure(plan, folder, slow_servers.urls) for t in order}
                limit = _limit(plan, folder, slow_servers, found["this"]["teacher_share"])
                full_speed = found  # without a slow-down both are the same
                if plan.slow_down > 1.0:
                    full_speed = {
                        t.name: t.measure(fast, folder, quick_servers.urls) for t in order
                    }
                rounds.append(
                    {name: _figures(found[name], full_speed[name], limit) for name in found}
                )
                for name, figures in rounds[-1].items():
                    results.print_figures(f"{name}, round {number + 1}", figures)
    return rounds


def _plan(options: argparse.Namespace, slow_down: float) -> Plan:
    workload = Workload()
    if options.context:
        workload = Workload(thinking_tokens=0, context_tokens=options.context)
    return Plan(
        concurrency=options.samples,
        warm_up_seconds=warm_up_for(slow_down, options.warm_up),
        seconds=options.seconds,
        slow_down=slow_down,
        workload=workload,
    )


def _limit(plan: Plan, folder: Path, servers: Running, teacher_share: float) -> float:
    """Return tokens per second of plain decoding, as without the slow-down."""
    both: dict[Author, Path] = dict.fromkeys(_SIDES, folder)
    task = ClientTask("ours", plan, both, urls=servers.urls)
    found = send(replace(task, client="plain", teacher_share=teacher_share))
    return found.generated / found.seconds * found.slow_down


def _figures(
    slowed: Mapping[str, Any], full_speed: Mapping[str, Any], limit: float
) -> dict[str, float]:
    kept = max(1, slowed["kept"])
    rate = kept / slowed["seconds"] * slowed["slow_down"]
    spent = slowed["cpu_seconds"] + slowed["predictor_seconds"]
    spent += sum(slowed["server_cpu_seconds"].values())
    return {
        "tax": limit / rate,
        "kept_tokens_per_s": rate,
        "sustained_tokens_per_s": full_speed["kept"] / full_speed["seconds"],
        "client_cpu_us_per_kept": 1e6 * slowed["cpu_seconds"] / kept,
        "sustained_cpu_us_per_kept": 1e6 * full_speed["cpu_seconds"] / max(1, full_speed["kept"]),
        "generated_per_kept": slowed["generated"] / kept,
        "requests_per_1k_kept": 1000 * slowed["requests"] / kept,
        "peak_rss_mib": slowed["peak_rss_mib"],
        "cpu_load": spent / ((os.cpu_count() or 1) * slowed["seconds"]),
    }


def table(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """Return medians of both trees with their ranges, and the median ratio within a round."""
    this = results.medians([found["this"] for found in rounds])
    other = results.medians([found["other"] for found in rounds])
    ratios = results.medians([_ratios(found["this"], found["other"]) for found in rounds])
    lines = ["| | this tree | the other | ratio |", "|---|---|---|---|"]
    for name, label, form in ROWS:
        cells = (_cell(this, name, form), _cell(other, name, form), _cell(ratios, name, "{:.2f}"))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ratios(this: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: this[name] / (other[name] or 1.0) for name in this}


def _cell(found: Mapping[str, Any], name: str, form: str) -> str:
    shown, low, high = (form.format(value) for value in (found[name], *found["spread"][name]))
    return shown if low == high else f"{shown} ({low}–{high})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, required=True, help="root of the other tree")
    parser.add_argument("--python", type=Path, help="for this tree (default: its .venv/bin/python)")
    parser.add_argument(
        "--other-python", type=Path, help="for the other tree (default: its .venv/bin/python)"
    )
    parser.add_argument(
        "--samples", type=whole_number, default=100, help="in flight (default: %(default)s)"
    )
    parser.add_argument(
        "--context",
        type=whole_number,
        help="tokens before each draft (default: samples at random progress)",
    )
    parser.add_argument("--rounds", type=whole_number, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--slow-down",
        type=positive,
        help="factor on the times of the slower servers (default: samples / 8, 1 at least)",
    )
    parser.add_argument(
        "--warm-up",
        type=positive,
        default=10.0,
        help="seconds before each window (default: 10; 0.8 x slow-down if that is more)",
    )
    parser.add_argument(
        "--seconds", type=positive, default=30.0, help="of each window (default: %(default)s)"
    )
    parser.add_argument("--json", type=new_file, help="file for all measurements")
    return parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    options.other = options.other.resolve()
    if not (options.other / "benchmarks" / "clients.py").exists():
        parser.error(f"--other: {options.other} has no benchmarks/clients.py; give a tree of tessy")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table, or run as the client of one tree."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--client"]:
        _client(json.loads(arguments[1]))
        return
    options = parse(arguments)
    rounds = compare(options)
    results.write({**results.header(options), "rounds": rounds}, options.json)
    print(table(rounds))


if __name__ == "__main__":
    command(main)
