"""The tables of an evaluation on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from tessy.boundary.evaluation.report import short_name
from tessy.core.formatting import NONE, interval, percentage
from tessy.runtime.terminal import FiguresTable, visible
from tessy.storage.cards import short_digest

_CUTS = ("right", "exact", "early", "late", "left_whole")
_DRAFTS = {"all": "{}", "style_to_capability": "  student", "capability_to_style": "  teacher"}
_CUTS_NOTE = (
    "In %; below, the drafts of one author. right: drafts cut where the annotation changes class, "
    "or left whole where it does not. exact, early, late: of those in which it changes (never cut "
    "counts as late); left whole: of the others. off: mean distance of a cut, in words."
)
_REPLAY_NOTE = (
    "In %. Synthesis replayed over the segments: style words that the teacher would write, "
    "capability words that the student would write, hand-overs that are handed straight back; "
    "hand-overs per 100 words."
)
_CLASSES_NOTE = (
    "In %. Style against all other words, and tokens where a predictor has them. The others are "
    "capability, or mixed: words that neither author may write, with tokens of both classes."
)
_PAIRS_NOTE = (
    "In %. Words in different classes (style, capability, mixed); hand-overs that are handed "
    "straight back if the first, or the second, is the student's predictor."
)


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print the main metrics; all others are in evaluation.json."""
    data, drafts = report["data"], report["drafts"]
    digest = short_digest(report["annotations"]["digest"])
    console.print(
        f"The {report['author']}'s text, annotations {digest}: "
        f"{data['segments']:,} segments of {data['questions']:,} problems ({report['part']}), "
        f"{data['words']:,} words, {_percent(data['style'])} % style, "
        f"{_percent(data['mixed'])} % mixed; {drafts['n']:,} drafts of "
        f"{drafts['tokens']} {drafts['counted_in']}; {report['cut']}; 95 % intervals",
        soft_wrap=True,
        highlight=False,
    )
    _print(console, _cut_table(report), _CUTS_NOTE)
    _print(console, _replay_table(report), _REPLAY_NOTE)
    _print(console, _class_table(report), _CLASSES_NOTE)
    if report["pairs"]:
        _print(console, _pair_table(report), _PAIRS_NOTE)
    for note in report["notes"]:
        console.print(Text(visible(note), style="dim"))


def _cut_table(report: Mapping[str, Any]) -> FiguresTable:
    table = FiguresTable("The cut", *(name.replace("_", " ") for name in _CUTS), "off", "n")
    for entry in report["cuts"]:
        for key, name in _DRAFTS.items():
            figures = entry[key]
            table.add_row(
                _name(name.format(entry["name"])),
                *(_percent(figures[name], with_interval=name == "exact") for name in _CUTS),
                _words(figures["error_words"]),
                _count(figures["right"]),
            )
    return table


def _replay_table(report: Mapping[str, Any]) -> FiguresTable:
    table = FiguresTable(
        "The leak", "style leaked", "capability leaked", "bounced", "hand-overs", "best at"
    )
    for entry in report["cuts"]:
        replay, best = entry["replay"], entry["best_threshold"]
        table.add_row(
            _name(entry["name"]),
            _percent(replay["style_by_teacher"], with_interval=True),
            _percent(replay["capability_by_student"], with_interval=True),
            _percent(replay["bounced"]),
            _percent(replay["hand_overs"]),
            NONE if best is None else f"{best:g}",
        )
    return table


def _class_table(report: Mapping[str, Any]) -> FiguresTable:
    names = ("accuracy", "precision", "recall", "f1")
    table = FiguresTable("Classes", "of", *names, "n")
    for entry in report["predictors"]:
        for what in ("words", "tokens"):
            figures = entry[what]
            if figures is not None:
                table.add_row(
                    _name(entry["name"]),
                    what,
                    *(_percent(figures[name], with_interval=name == "f1") for name in names),
                    _count(figures["accuracy"]),
                )
    return table


def _pair_table(report: Mapping[str, Any]) -> FiguresTable:
    table = FiguresTable("Side by side", "apart", "bounced", "bounced, reversed")
    for pair in report["pairs"]:
        table.add_row(
            Text(" and ").join((_name(pair["first"]), _name(pair["second"]))),
            _percent(pair["words"], with_interval=True),
            _percent(pair["bounced_first_student"], with_interval=True),
            _percent(pair["bounced_second_student"], with_interval=True),
        )
    return table


def _name(name: str) -> Text:
    return Text(visible(short_name(name)))


def _print(console: Console, table: FiguresTable, note: str) -> None:
    console.print()
    console.print(table)
    console.print(Text(note, style="dim"))


def _percent(estimate: Mapping[str, Any] | None, *, with_interval: bool = False) -> str:
    if estimate is None:
        return NONE
    shown = percentage(estimate["value"])
    ends = interval(estimate["low"], estimate["high"], partial(percentage, digits=0))
    return f"{shown} [{ends}]" if with_interval and ends else shown


def _words(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return NONE
    half = "" if estimate["high"] is None else f" ±{estimate['high'] - estimate['value']:.2f}"
    return f"{estimate['value']:.2f}{half}"


def _count(estimate: Mapping[str, Any] | None) -> str:
    return "0" if estimate is None else f"{estimate['n']:,.0f}"
