"""How close cooperation comes to plain decoding: ``python -m benchmarks.bench_cooperation``.

Three clients take turns on the same servers, each in a process of its own: the cooperation, plain
decoding (the limit, each model its share of the tokens that the cooperation kept), and a lock-step
client. With simulated servers the lock-step client runs on a virtual clock without sockets, so its
own work takes no time.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.arguments import new_file, not_negative, positive, whole_number
from benchmarks.clients import (
    ClientTask,
    pair_options,
    send,
    send_undisturbed,
    slow_down_for,
    warm_up_for,
    with_seed,
)
from benchmarks.cooperation_client import Plan
from benchmarks.measurement import Measured
from benchmarks.plain_client import TURN_TOKENS
from benchmarks.processes import command
from benchmarks.server_access import SIDES
from benchmarks.simulated_server import running
from benchmarks.table import table
from benchmarks.vllm import TURN_TOKENS as VLLM_TURN_TOKENS
from benchmarks.vllm import WORKLOAD as VLLM_WORKLOAD
from benchmarks.vllm import Serving, fill_cache, serving, vllm_python
from benchmarks.word_models import SHAPES
from benchmarks.words import make_model_folder
from benchmarks.workload import Workload
from tessy.core.records import Author

WARM_UP_SECONDS = {"simulated": 10.0, "vllm": 5.0}
# Many short windows average over a CPU whose speed changes every minute.
WINDOW_SECONDS = {"simulated": 60.0, "vllm": 10.0}
ROUNDS = {"simulated": 3, "vllm": 9}
# Windows in one measurement: an answer blocks the whole batch, and a steady rate needs several.
LOCK_STEP_WINDOWS = {"simulated": 5, "vllm": 3}
_SMALL = "small"


def measure(
    options: argparse.Namespace, concurrency: int, served: Serving | None
) -> Generator[dict[str, Any], None, None]:
    """Measure at one concurrency; yields the figures after each round."""
    plan = _plan(options, concurrency)
    rounds: list[dict[str, Measured]] = []
    with _servers(options, plan, served) as task:
        for number in range(options.rounds or ROUNDS[options.servers]):
            seeded = with_seed(plan, number, real=served is not None)
            measured = _round(task, seeded)
            rounds.append(measured)
            for warning in results.warnings(measured, simulated=options.servers == "simulated"):
                print(warning, file=sys.stderr, flush=True)
            found = results.figures(measured, virtual=plan.virtual)
            results.print_figures(f"{concurrency} samples, round {number + 1}", found)
            yield results.summary(rounds, virtual=plan.virtual)


def _round(task: ClientTask, plan: Plan) -> dict[str, Measured]:
    """Measure all clients, the cooperation first: the limit depends on the shares that it kept."""
    seeded = replace(task, plan=plan)
    # The CPU limits a real server on it; simulated servers are slowed down until it does not.
    measure_client = send if task.session is None else send_undisturbed
    cooperation = measure_client(seeded)
    plain = measure_client(replace(seeded, client="plain", teacher_share=cooperation.teacher_share))
    windows = LOCK_STEP_WINDOWS["simulated" if task.session is None else "vllm"]
    long = replace(plan, seconds=windows * plan.seconds)
    stepping = replace(seeded, client="lock_step", plan=long)
    if task.session is None:
        # On the virtual clock the lock-step client finishes within seconds.
        stepping = replace(stepping, urls=None, plan=replace(long, virtual=True, slow_down=1.0))
    return {"ours": cooperation, "plain": plain, "lock_step": measure_client(stepping)}


def _plan(options: argparse.Namespace, concurrency: int) -> Plan:
    slow_down = options.slow_down
    if slow_down is None:
        simulated = options.servers == "simulated" and not options.virtual
        slow_down = slow_down_for(concurrency) if simulated else 1.0
    warm_up = warm_up_for(slow_down, WARM_UP_SECONDS[options.servers])
    return Plan(
        concurrency=concurrency,
        warm_up_seconds=options.warm_up or warm_up,
        seconds=options.seconds or WINDOW_SECONDS[options.servers],
        slow_down=slow_down,
        predictor=options.predictor,
        predictor_delay_seconds=options.predictor_delay_ms / 1000,
        virtual=options.virtual,
        draft_tokens=dict(zip(SIDES, options.draft_tokens, strict=True))
        if options.draft_tokens
        else None,
        workload=Workload() if options.servers == "simulated" else VLLM_WORKLOAD,
    )


@contextlib.contextmanager
def _servers(
    options: argparse.Namespace, plan: Plan, served: Serving | None
) -> Generator[ClientTask, None, None]:
    """Yield a task for the requested servers; simulated ones run during the context."""
    if served is not None:
        fill_cache(served, plan.concurrency)
        yield ClientTask(
            "ours",
            plan,
            served.folders,
            urls=served.urls,
            session=served.session,
            cores=served.cores,
            turn_tokens=VLLM_TURN_TOKENS,
        )
        return
    with tempfile.TemporaryDirectory(prefix="tessy-bench-") as scratch:
        folder = make_model_folder(Path(scratch) / "model")
        both: dict[Author, Path] = {"student": folder, "teacher": folder}
        if plan.virtual:
            yield ClientTask("ours", plan, both, turn_tokens=TURN_TOKENS)
            return
        with running(folder, pair_options(plan)) as servers:
            yield ClientTask("ours", plan, both, urls=servers.urls, turn_tokens=TURN_TOKENS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", choices=("simulated", "vllm"), default="simulated")
    parser.add_argument(
        "--concurrency", type=whole_number, nargs="+", default=[16, 100], help="(default: 16 100)"
    )
    parser.add_argument("--json", type=new_file, help="file for all measurements")
    parser.add_argument(
        "--slow-down",
        type=positive,
        help="factor on the servers' times (default: samples / 8, 1 at least; vllm, --virtual: 1)",
    )
    parser.add_argument(
        "--warm-up",
        type=positive,
        help="seconds before each window (default: 10, vllm: 5; 0.8 x slow-down if that is more)",
    )
    parser.add_argument(
        "--seconds", type=positive, help="length of each window (default: 60, vllm: 10)"
    )
    parser.add_argument(
        "--rounds", type=whole_number, help="measurements of each client (default: 3, vllm: 9)"
    )
    _add_predictor_options(parser)
    parser.add_argument(
        "--shape",
        choices=SHAPES,
        default=_SMALL,
        help="size of vLLM's model (default: small); larger ones need a GPU",
    )
    parser.add_argument(
        "--virtual",
        action="store_true",
        help="run on a virtual clock without sockets: figures of the policy alone",
    )
    return parser


def _add_predictor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--predictor",
        choices=("queue", "oracle"),
        default="queue",
        help="oracle: without queue and delay (default: queue)",
    )
    parser.add_argument(
        "--predictor-delay-ms",
        type=not_negative,
        default=3.0,
        help="duration of a batch (default: 3)",
    )
    parser.add_argument(
        "--draft-tokens",
        type=whole_number,
        nargs=2,
        metavar=("TEACHER", "STUDENT"),
        help="drafts of fixed length instead of a stream per span",
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.servers == "simulated":
        if options.shape != _SMALL:
            parser.error("--shape is for --servers vllm")
    else:
        for name in ("virtual", "slow_down"):
            if getattr(options, name):
                parser.error(f"--{name.replace('_', '-')} is for simulated servers")
        try:
            vllm_python()
        except FileNotFoundError as error:
            parser.error(str(error))
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table and write a file."""
    options = parse(arguments)
    document = {**results.header(options), "concurrency": {}}
    shape = SHAPES[options.shape]
    with serving(shape) if options.servers == "vllm" else contextlib.nullcontext() as served:
        if served is not None:
            document["servers"] = served.about
        for concurrency in options.concurrency:
            for found in measure(options, concurrency, served):
                document["concurrency"][str(concurrency)] = found
                results.write(document, options.json)
    print(table(document))


if __name__ == "__main__":
    command(main)
