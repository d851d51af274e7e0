"""Figures of a table, computed from measurements (pure)."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measurement import Measured

Round = Mapping[str, Measured]  # by client

# Of the machine's CPU time, in a window that says something.
_MOST_LOAD = 0.7
_MOST_OTHERS = 0.1


def figures(measured: Round, *, virtual: bool) -> dict[str, float | None]:
    """Return the figures of one round; None where they cannot be measured.

    ``tax`` is the limit's rate over ours. ``look_ahead_per_kept`` are tokens that arrived and were
    not kept, ``in_flight_per_kept`` those the servers wrote that were never looked at; real servers
    do not count what they write after an abort. CPU, memory and predictor tokens are only real with
    sockets.
    """
    ours, plain, lock_step = measured["ours"], measured["plain"], measured["lock_step"]
    kept = max(1, ours.kept)
    rate = ours.kept / ours.seconds * ours.slow_down
    limit = plain.generated / plain.seconds * plain.slow_down
    stepped = lock_step.kept / lock_step.seconds * lock_step.slow_down
    slot_seconds = ours.busy_seconds + ours.idle_seconds
    return {
        "kept_tokens_per_s": rate,
        "limit_tokens_per_s": limit,
        "lock_step_tokens_per_s": stepped,
        "tax": limit / rate if rate else None,
        "vs_lockstep": rate / stepped if stepped else None,
        "generated_per_kept": ours.generated / kept,
        "look_ahead_per_kept": (ours.received - ours.kept) / kept,
        "in_flight_per_kept": None if ours.steps else (ours.generated - ours.received) / kept,
        "requests_per_1k_kept": 1000 * ours.requests / kept,
        "prefilled_per_kept": ours.prefilled / kept if ours.steps else None,
        "step_ms": 1000 * plain.seconds / plain.steps if plain.steps else None,
        "steps_tax": _steps_tax(ours, plain) if plain.steps else None,
        "client_cpu_us_per_kept": None if virtual else 1e6 * ours.cpu_seconds / kept,
        "predictor_cpu_us_per_kept": None if virtual else 1e6 * ours.predictor_seconds / kept,
        "predictor_tokens_per_kept": None if virtual else ours.predictor_tokens / kept,
        "server_idle": ours.idle_seconds / slot_seconds if slot_seconds else None,
        "peak_rss_mib": None if virtual else ours.peak_rss_mib,
        "cpu_load": None if virtual else cpu_load(ours),
        "others_cpu_load": None if virtual else cpu_load(ours, _others(ours)),
        "stolen_cpu": None if virtual else stolen_share(ours),
        "teacher_share": ours.teacher_share,
    }


def warnings(measured: Round, *, simulated: bool) -> list[str]:
    """Return what makes the windows of a round say little: busy cores, other work on the machine.

    Real servers on a CPU are meant to keep it busy.
    """
    found = []
    for client, window in measured.items():
        if not window.server_cpu_seconds:  # on a virtual clock
            continue
        if simulated and cpu_load(window) > _MOST_LOAD:
            found.append(f"{client}: {cpu_load(window):.0%} CPU load: take a larger --slow-down")
        if (others := cpu_load(window, _others(window))) > _MOST_OTHERS:
            found.append(f"{client}: {others:.0%} CPU load of other work: stop it and measure anew")
    return found


def tell(what: str, figures: Mapping[str, float | None]) -> None:
    """Print the figures of one round that could be measured."""
    shown = {name: round(value, 3) for name, value in figures.items() if value is not None}
    print(f"{what}: {json.dumps(shown)}", flush=True)


def write(document: Mapping[str, Any], path: Path | None) -> None:
    """Write ``document`` into the file of the options, if any."""
    if path is not None:
        path.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")


def cpu_load(measured: Measured, cpu_seconds: float | None = None) -> float:
    """Return ``cpu_seconds`` as a share of the machine; by default of all measured processes."""
    spent = _cpu_seconds(measured) if cpu_seconds is None else cpu_seconds
    return spent / ((os.cpu_count() or 1) * measured.seconds)


def stolen_share(measured: Measured) -> float:
    """Return the share of the machine's CPU time that the host took away."""
    return cpu_load(measured, measured.stolen_cpu_seconds)


def _cpu_seconds(measured: Measured) -> float:
    """Return the CPU time of client, predictors and servers."""
    servers = sum(measured.server_cpu_seconds.values())
    return measured.cpu_seconds + measured.predictor_seconds + servers


def _others(measured: Measured) -> float:
    """Return the CPU time of everything else on the machine."""
    return max(0.0, measured.machine_cpu_seconds - _cpu_seconds(measured))


def _steps_tax(ours: Measured, plain: Measured) -> float:
    """Engine steps per token over those of plain decoding: what fast servers pay for.

    A server that waits for its memory, as a GPU does, takes nearly as long for a step that also
    reads some prompt tokens; on a CPU each of them costs.
    """
    return (ours.steps / max(1, ours.kept)) / (plain.steps / max(1, plain.generated))


def summary(rounds: Sequence[Round], *, virtual: bool) -> dict[str, Any]:
    """Return medians over rounds, their spreads, and all measurements."""
    each = [figures(measured, virtual=virtual) for measured in rounds]
    measured = [{client: asdict(found) for client, found in one.items()} for one in rounds]
    return {**medians(each), "slow_down": rounds[0]["ours"].slow_down, "rounds": measured}


def medians(each: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Return the median of each figure over rounds, and its range under ``spread``."""
    found: dict[str, Any] = {}
    spread: dict[str, list[float]] = {}
    for name in each[0]:
        values = [value for one in each if (value := one[name]) is not None]
        found[name] = median(values) if values else None
        if values:
            spread[name] = [min(values), max(values)]
    return {**found, "spread": spread}


def opening(options: argparse.Namespace) -> dict[str, Any]:
    """Return the head of a results file: machine, versions and options."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    chosen = {name: value for name, value in vars(options).items() if name != "json"}
    return {**about(today), "options": chosen}


def about(date: str) -> dict[str, Any]:
    """Return the machine and the versions."""
    names = ("tessy", "aiohttp", "transformers", "tokenizers")
    return {
        "date": date,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }
