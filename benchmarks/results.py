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

# Maximum shares of the machine's CPU time in a meaningful window.
_MOST_LOAD = 0.7
_MOST_OTHERS = 0.1


def figures(measured: Round, *, virtual: bool) -> dict[str, float | None]:
    """Return the figures of one round; None where they cannot be measured.

    ``tax`` is the rate of plain decoding divided by that of the cooperation.
    ``look_ahead_per_kept`` counts tokens that arrived and were not kept, ``in_flight_per_kept``
    those that servers generated and no client read; real servers do not count tokens after an
    abort. CPU time, memory and predictor tokens are None on a virtual clock.
    """
    cooperation, plain, lock_step = measured["ours"], measured["plain"], measured["lock_step"]
    kept = max(1, cooperation.kept)
    rate = cooperation.kept / cooperation.seconds * cooperation.slow_down
    limit = plain.generated / plain.seconds * plain.slow_down
    stepped = lock_step.kept / lock_step.seconds * lock_step.slow_down
    slot_seconds = cooperation.busy_seconds + cooperation.idle_seconds
    unread = cooperation.generated - cooperation.received
    predictor_seconds = cooperation.predictor_seconds
    return {
        "kept_tokens_per_s": rate,
        "limit_tokens_per_s": limit,
        "lock_step_tokens_per_s": stepped,
        "tax": limit / rate if rate else None,
        "vs_lockstep": rate / stepped if stepped else None,
        "generated_per_kept": cooperation.generated / kept,
        "look_ahead_per_kept": (cooperation.received - cooperation.kept) / kept,
        "in_flight_per_kept": None if cooperation.steps else unread / kept,
        "requests_per_1k_kept": 1000 * cooperation.requests / kept,
        "prefilled_per_kept": cooperation.prefilled / kept if cooperation.steps else None,
        "step_ms": 1000 * plain.seconds / plain.steps if plain.steps else None,
        "steps_tax": _steps_tax(cooperation, plain) if plain.steps else None,
        "client_cpu_us_per_kept": None if virtual else 1e6 * cooperation.cpu_seconds / kept,
        "predictor_cpu_us_per_kept": None if virtual else 1e6 * predictor_seconds / kept,
        "predictor_tokens_per_kept": None if virtual else cooperation.predictor_tokens / kept,
        "server_idle": cooperation.idle_seconds / slot_seconds if slot_seconds else None,
        "peak_rss_mib": None if virtual else cooperation.peak_rss_mib,
        "cpu_load": None if virtual else cpu_load(cooperation),
        "others_cpu_load": None if virtual else cpu_load(cooperation, _others(cooperation)),
        "stolen_cpu": None if virtual else stolen_share(cooperation),
        "teacher_share": cooperation.teacher_share,
    }


def warnings(measured: Round, *, simulated: bool) -> list[str]:
    """Return reasons why windows of a round are unreliable: busy cores, other work on the machine.

    Real servers on a CPU keep it busy by design.
    """
    found = []
    for client, window in measured.items():
        if not window.server_cpu_seconds:  # on a virtual clock
            continue
        if simulated and cpu_load(window) > _MOST_LOAD:
            found.append(f"{client}: {cpu_load(window):.0%} CPU load; use a larger --slow-down")
        if (others := cpu_load(window, _others(window))) > _MOST_OTHERS:
            found.append(
                f"{client}: {others:.0%} CPU load of other work; stop it and measure again"
            )
    return found


def print_figures(what: str, figures: Mapping[str, float | None]) -> None:
    """Print the figures of one round, without those that are None."""
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
    """Return the share of the machine's CPU time stolen by the host."""
    return cpu_load(measured, measured.stolen_cpu_seconds)


def _cpu_seconds(measured: Measured) -> float:
    """Return the CPU time of client, predictors and servers."""
    servers = sum(measured.server_cpu_seconds.values())
    return measured.cpu_seconds + measured.predictor_seconds + servers


def _others(measured: Measured) -> float:
    """Return the CPU time of everything else on the machine."""
    return max(0.0, measured.machine_cpu_seconds - _cpu_seconds(measured))


def _steps_tax(cooperation: Measured, plain: Measured) -> float:
    """Return the engine steps per token, divided by those of plain decoding.

    The tax where memory limits the server, as on a GPU: a step takes nearly as long if it also
    computes some prompt tokens. On a CPU each of them adds time.
    """
    return (cooperation.steps / max(1, cooperation.kept)) / (plain.steps / max(1, plain.generated))


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


def header(options: argparse.Namespace) -> dict[str, Any]:
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
