"""An evaluation on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tessy.terminal import visible

_CUTS = ("right", "exact", "early", "late", "left_whole")
_CUTS_SAID = (
    "right: cut where the annotation changes class, or left whole where it does not. "
    "exact, early, late: of the drafts in which it changes (never cut counts as late). "
    "left whole: of the others. off: mean distance of the cut."
)
_REPLAY_SAID = (
    "Synthesis replayed over the segments: the words the wrong model would write, and the "
    "hand-overs that come straight back."
)


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print what a reader wants first; all else is in evaluation.json."""
    data, drafts = report["data"], report["drafts"]
    console.print(
        f"{data['segments']:,} segments of {data['questions']:,} questions ({report['part']}), "
        f"{data['words']:,} words, {_percent(data['style'])} style; {drafts['n']:,} drafts of "
        f"{drafts['tokens']} {drafts['counted_in']}; {report['cut']}; 95 % intervals",
        soft_wrap=True,
        highlight=False,
    )
    _print(console, _cut_table(report), _CUTS_SAID)
    _print(console, _replay_table(report), _REPLAY_SAID)
    _print(console, _class_table(report), "Classes of words, and of tokens where it has them.")
    if report["pairs"]:
        said = "Two predictors on the same text; bounced: hand-overs handed straight back."
        _print(console, _pair_table(report), said)
    for note in report["notes"]:
        console.print(Text(visible(note), style="dim"))


def _cut_table(report: Mapping[str, Any]) -> Table:
    table = _table("The cut", "predictor", "drafts by", *_CUTS, "off (words)", "off (tokens)", "n")
    for entry in report["cuts"]:
        for key, who in (
            ("all", "both"),
            ("style_to_capability", "student"),
            ("capability_to_style", "teacher"),
        ):
            figures = entry[key]
            table.add_row(
                Text(visible(entry["name"]) if key == "all" else ""),
                who,
                *(_percent(figures[name], interval=name == "exact") for name in _CUTS),
                _number(figures["error_words"]),
                _number(figures["error_tokens"]),
                _count(figures["right"]),
            )
    return table


def _replay_table(report: Mapping[str, Any]) -> Table:
    table = _table(
        "The leak",
        "predictor",
        "style by teacher",
        "capability by student",
        "bounced",
        "hand-overs per 100 words",
        "best threshold",
    )
    for entry in report["cuts"]:
        played, best = entry["replay"], entry["best_threshold"]
        hand_overs = played["hand_overs"]
        table.add_row(
            Text(visible(entry["name"])),
            _percent(played["style_by_teacher"], interval=True),
            _percent(played["capability_by_student"], interval=True),
            _percent(played["bounced"]),
            "–" if hand_overs is None else f"{100 * hand_overs['value']:.1f}",
            "–" if best is None else f"{best:g}",
        )
    return table


def _class_table(report: Mapping[str, Any]) -> Table:
    names = ("accuracy", "precision", "recall", "f1")
    table = _table("Classes", "predictor", "of", *names, "n")
    for one in report["predictors"]:
        for what in ("words", "tokens"):
            if one[what] is not None:
                figures = one[what]
                table.add_row(
                    Text(visible(one["name"])),
                    what,
                    *(_percent(figures[name], interval=name == "f1") for name in names),
                    _count(figures["accuracy"]),
                )
    return table


def _pair_table(report: Mapping[str, Any]) -> Table:
    table = _table("Side by side", "first", "second", "words apart", "bounced", "bounced, reversed")
    for pair in report["pairs"]:
        table.add_row(
            Text(visible(pair["first"])),
            Text(visible(pair["second"])),
            _percent(pair["words"], interval=True),
            _percent(pair["bounced_first_student"], interval=True),
            _percent(pair["bounced_second_student"], interval=True),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        said = column.replace("_", " ")
        table.add_column(said, justify="left" if index < 2 else "right", overflow="fold")
    return table


def _print(console: Console, table: Table, said: str) -> None:
    console.print()
    console.print(table)
    console.print(Text(said, style="dim"))


def _percent(estimate: Mapping[str, Any] | None, *, interval: bool = False) -> str:
    if estimate is None:
        return "–"
    text = f"{100 * estimate['value']:.1f} %"
    if interval and estimate["low"] is not None:
        text += f" [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
    return text


def _number(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return "–"
    reach = "" if estimate["low"] is None else f" [{estimate['low']:.2f}, {estimate['high']:.2f}]"
    return f"{estimate['value']:.2f}{reach}"


def _count(estimate: Mapping[str, Any] | None) -> str:
    return "0" if estimate is None else f"{estimate['n']:,.0f}"
