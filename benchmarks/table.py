"""A results file as a Markdown table: ``python -m benchmarks.table FILE``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tessy.core.formatting import markdown_table

_ROWS = (
    ("kept_tokens_per_s", "kept tokens/s, as without the slow-down", "{:,.0f}"),
    ("limit_tokens_per_s", "limit: plain decoding, tokens/s", "{:,.0f}"),
    ("lock_step_tokens_per_s", "lock-step client, tokens/s", "{:,.0f}"),
    ("tax", "tax (limit / cooperation)", "{:.2f}"),
    ("vs_lockstep", "cooperation / lock-step client", "{:.1f}"),
    ("generated_per_kept", "generated per kept token", "{:.3f}"),
    ("look_ahead_per_kept", "… look-ahead", "{:.3f}"),
    ("in_flight_per_kept", "… in flight at the abort", "{:.3f}"),
    ("requests_per_1k_kept", "requests per 1,000 kept tokens", "{:.0f}"),
    ("prefilled_per_kept", "prompt tokens computed per kept token", "{:.1f}"),
    ("steps_tax", "engine steps per token, cooperation / plain decoding", "{:.2f}"),
    ("step_ms", "engine step in plain decoding, ms", "{:.1f}"),
    ("client_cpu_us_per_kept", "client CPU, µs per kept token", "{:.0f}"),
    ("predictor_tokens_per_kept", "predictor tokens per kept token (both)", "{:.2f}"),
    ("server_idle", "server idle share", "{:.1%}"),
    ("peak_rss_mib", "peak memory of the client, MiB", "{:,.0f}"),
    ("cpu_load", "CPU load of client, predictor and servers", "{:.0%}"),
    ("others_cpu_load", "CPU load of other processes", "{:.0%}"),
    ("stolen_cpu", "CPU time stolen by the host", "{:.0%}"),
    ("slow_down", "slow-down", "{:g}"),
)
_GROWTH = (
    ("cpu_us_per_draft", "client CPU per draft, µs", "{:,.0f}"),
    ("cpu_us_per_kept", "per kept token, µs", "{:.0f}"),
    ("slowed_tokens_per_s", "kept tokens/s, slowed down", "{:,.0f}"),
    ("cpu_load", "CPU load of client, predictor and servers", "{:.0%}"),
)


def table(results: Mapping[str, Any]) -> str:
    """Return the table of a file that ``bench_cooperation`` wrote: a column per concurrency.

    A cell is the median of the rounds, with the spread where there is more than one.
    """
    columns: Mapping[str, Mapping[str, Any]] = results["concurrency"]
    rows = [
        (label, *(_cell(column, name, form) for column in columns.values()))
        for name, label, form in _ROWS
    ]
    shown = (row for row in rows if any(row[1:]))
    return markdown_table(("samples in flight", *columns), shown).rstrip("\n")


def growth_table(results: Mapping[str, Any]) -> str:
    """Return the table of a file that ``bench_growth`` wrote."""
    columns: Mapping[str, Mapping[str, Any]] = results["context"]
    labels = (label for _, label, _ in _GROWTH)
    rows = [
        (f"{int(tokens):,}", *(_cell(found, name, form) for name, _, form in _GROWTH))
        for tokens, found in columns.items()
    ]
    return markdown_table(("context, tokens", *labels), rows).rstrip("\n")


def _cell(column: Mapping[str, Any], name: str, form: str) -> str:
    value = column.get(name)
    if value is None:
        return ""
    low, high = column["spread"].get(name, (value, value))
    shown = form.format(value)
    ends = (form.format(low), form.format(high))
    return shown if set(ends) == {shown} else f"{shown} ({ends[0]}–{ends[1]})"


def main(arguments: list[str] | None = None) -> None:
    """Print the table of a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="output of a benchmark's --json")
    file: Path = parser.parse_args(arguments).file
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"{file}: {error}")
    if not (isinstance(results, dict) and (results.get("concurrency") or results.get("context"))):
        parser.error(
            f"{file} is not the --json output of bench_cooperation or bench_growth: it has "
            "no figures under «concurrency» or «context»"
        )
    print(table(results) if "concurrency" in results else growth_table(results))


if __name__ == "__main__":
    main()
