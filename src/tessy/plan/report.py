"""Output of a plan to the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Console

from tessy.config.synthesis import PlanConfig
from tessy.core.errors import reason_labels
from tessy.core.formatting import (
    counted,
    duration,
    interval,
    percent,
    percentage,
    short_count,
    size,
    tally,
)
from tessy.core.records import AUTHORS, Author
from tessy.plan.figures import Figure, Plan
from tessy.runtime.terminal import FiguresTable, visible

Show = Callable[[float], str]


def print_plan(
    plan: Plan, config: PlanConfig, names: Mapping[Author, str], console: Console
) -> None:
    """Print all figures with their assumptions and warnings; ``names`` are the models in use."""
    inputs = plan.inputs
    table = FiguresTable("Plan", "so far", "to come", "95 % interval", "whole file", style="bold")
    samples = (len(inputs.samples), inputs.scope.samples)
    table.add_row("Samples", *(f"{n:,}" for n in samples), "", f"{sum(samples):,}")
    _row(table, "Wall clock", plan.hours, _clock)
    figures = plan.figures
    _row(table, "Failures", figures["failures"], short_count)
    for label, name in (("Requests", "requests"), ("Kept tokens", "kept")):
        for author in names:
            _row(table, f"{label}, {author}", figures[f"{name}.{author}"], short_count)
    _row(table, "Kept tokens, answers", figures["kept.answer"], short_count)
    for author in names:
        _row(table, f"Generated, {author}", figures[f"generated.{author}"], short_count)
    if "scored" in figures:
        _row(table, "Scored tokens, student", figures["scored"], short_count)
    _row(table, "Disk: rows", figures["bytes"], size)
    console.print(table)
    for line in (*_grounds(plan, names), *_warnings(plan, config), *_budgets(plan, config)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _row(table: FiguresTable, label: str, figure: Figure, show: Show) -> None:
    value, low, high = figure.to_come
    between = interval(low, high, show, " – ")
    table.add_row(label, show(figure.so_far), show(value), between, show(figure.whole))


def _grounds(plan: Plan, names: Mapping[Author, str]) -> list[str]:
    inputs = plan.inputs
    share, low, high = plan.failure_share
    ends = interval(low, high, percentage, " – ")
    failed = tally(reason_labels(plan.reasons)) or "none"
    models = ", ".join(f"{author} {visible(name)}" for author, name in names.items())
    lines = [
        f"From {counted(len(inputs.samples), 'sample')} of {counted(plan.problems, 'problem')}. "
        f"Failed: {failed} ({percent(share)}, 95 % interval {ends} %).",
        "Kept tokens are in the training data, counted with the student's tokenizer. Generated "
        "tokens include those not kept, counted with each model's own tokenizer, and an estimate "
        "of what a server generates between the close of a request and its abort; multiply them by "
        f"your prices ({models}). Prompts are not counted.",
    ]
    lines += _scores(plan.figures)
    if inputs.counted:
        each = ", ".join(
            f"{author} {servers:,} (this plan: {ours:,})"
            for author, (servers, ours) in inputs.counted.items()
        )
        lines.append(f"Generated in this pilot by the servers' own count: {each}.")
    if inputs.scope.samples:
        lines.append(
            f"Assumptions: {counted(inputs.slots, 'sample')} in flight, and servers as fast as in "
            "the pilot. Intervals cover the random draw of samples, not changes of the servers. "
            f"The journal of samples in flight takes up to {size(plan.journal)} more."
        )
    return lines


def _scores(figures: Mapping[str, Figure]) -> list[str]:
    """Return a paragraph on the scored tokens; empty for a plan without them."""
    kept = sum(figures[f"kept.{author}"].so_far for author in AUTHORS)
    if "scored" not in figures or not kept:
        return []
    return [
        "Scored tokens are tokens whose likelihood the student computes to choose candidates: "
        f"{figures['scored'].so_far / kept:,.1f} per kept token of the thinking. A server that "
        "does not use its prefix cache for scores also computes the text before them "
        "(docs/restyle.md, Cost)."
    ]


def _warnings(plan: Plan, config: PlanConfig) -> list[str]:
    inputs = plan.inputs
    if not inputs.scope.samples:
        return ["All samples have ended; none remain."]
    lines = []
    if plan.at_most is not None:
        larger = min(2 * inputs.slots, len(inputs.samples) + inputs.scope.samples)
        seen = f"{inputs.load.usual:.0f} at its peak" if inputs.load else "fewer on average"
        lines.append(
            f"The time is a lower bound: the run will have {counted(inputs.slots, 'sample')} in "
            f"flight, but the pilot had {seen}. If more samples in flight bring no speedup, "
            f"{_clock(plan.at_most)} remain. To measure it, pass --pilot {larger}."
        )
    if not inputs.drawn and (more := len(inputs.samples) - config.pilot) > 0:
        lines.append(
            f"{counted(more, 'sample')} of an earlier run {'is' if more == 1 else 'are'} included. "
            "They are from the top of the file, and in an interrupted run short samples end first, "
            "so the remaining samples may be longer."
        )
    return lines


def _budgets(plan: Plan, config: PlanConfig) -> list[str]:
    generated = plan.figures["generated"]
    compared: tuple[tuple[str, float | None, Figure, Show], ...] = (
        ("budget_hours", config.budget_hours, plan.hours, _clock),
        ("budget_tokens", config.budget_tokens, generated, short_count),
    )
    lines = []
    for name, limit, figure, show in compared:
        if limit is None:
            continue
        low, high = (figure.so_far + end for end in (figure.to_come.low, figure.to_come.high))
        verdict = "is enough" if limit >= high else "may not be enough"
        verdict = "is not enough" if limit < low else verdict
        lines.append(
            f"{name} ({show(limit)}) {verdict} for the whole file, which needs {show(low)} to "
            f"{show(high)}."
        )
    return lines


def _clock(hours: float) -> str:
    return duration(3600 * hours) if hours < 10 else f"{hours:,.{int(hours < 100)}f} h"
