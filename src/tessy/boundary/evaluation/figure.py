"""The plot of an evaluation: exact, early and late cuts, and the effect of the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tessy.boundary.evaluation.report import short_name
from tessy.storage.cards import short_digest
from tessy.storage.figures import figure_of, svg

# Okabe and Ito's colour-blind safe palette; lines also differ in their dashes.
_BLUE, _ORANGE, _SKY, _RED, _INK = "#0072B2", "#E69F00", "#56B4E9", "#D55E00", "#222222"
_CUTS = (("exact", "exact", _BLUE), ("early", "early", _SKY), ("late", "late or never", _ORANGE))
_LINES: tuple[tuple[str, str, str, Any], ...] = (
    ("exact", "exact cuts", _BLUE, "-"),
    ("style_by_teacher", "style by the teacher", _RED, "--"),
    ("capability_by_student", "capability by the student", _INK, ":"),
)
_MARKERS = "os^Dv*"
_MAX_NAME_CHARS = 28  # of a label
_BELOW: dict[str, Any] = {
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.2),
    "fontsize": 8,
    "frameon": False,
}


def draw(report: Mapping[str, Any]) -> bytes:
    """Return the plot of the content of evaluation.json as SVG; deterministic."""
    entries: Sequence[Mapping[str, Any]] = report["cuts"]
    graded = [entry for entry in entries if entry["sweep"]]
    with figure_of(11.0, 2.6 + 0.42 * max(len(entries), 4)) as figure:
        left, right = figure.subplots(1, 2)
        _bars(left, entries)
        _sweep(right, graded)
        drafts = report["drafts"]
        figure.suptitle(
            f"The {report['author']}'s text: {drafts['n']:,} drafts of {drafts['tokens']} "
            f"{drafts['counted_in'].split()[0]}, {report['data']['questions']:,} problems "
            f"({report['part']}), {report['cut']}; annotations "
            f"{short_digest(report['annotations']['digest'])}",
            fontsize=10,
        )
        return svg(figure)


def _bars(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("Cuts of drafts in which the class changes")
    rows = range(len(entries))
    starts = [0.0] * len(entries)
    for key, label, colour in _CUTS:
        shares = [_value(entry["all"][key]) for entry in entries]
        axes.barh(rows, shares, left=starts, color=colour, label=label, height=0.62)
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    for row, entry in enumerate(entries):
        exact = entry["all"]["exact"]
        if exact is None:
            axes.text(0.01, row, "no drafts", va="center")
            continue
        errors = [[exact["value"] - exact["low"]], [exact["high"] - exact["value"]]]
        axes.errorbar([exact["value"]], [row], xerr=errors, color=_INK, capsize=3, linewidth=1.2)
        axes.text(1.01, row, f"{exact['value']:.0%}  n={exact['n']:,.0f}", va="center")
    axes.set_yticks(list(rows), [_label(entry["name"]) for entry in entries])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of drafts (line: 95 % interval of exact)")
    axes.legend(ncols=3, **_BELOW)


def _sweep(axes: Axes, graded: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("Effect of the threshold of P(style)")
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("threshold of P(style)")
    axes.set_ylabel("share of drafts, or of words")
    if not graded:
        axes.text(0.5, 0.5, "no predictor with a threshold", ha="center")
        return
    for entry, marker in zip(graded, _MARKERS * len(graded), strict=False):
        thresholds = [row["threshold"] for row in entry["sweep"]]
        for key, _, colour, dashes in _LINES:
            shares = [_value(row[key]) for row in entry["sweep"]]
            axes.plot(thresholds, shares, dashes, color=colour, marker=marker, markersize=4)
        if entry["best_threshold"] is not None:
            axes.axvline(entry["best_threshold"], color="#999999", linewidth=0.8)
    axes.legend(handles=_keys(graded), ncols=2, **_BELOW)


def _keys(graded: Sequence[Mapping[str, Any]]) -> list[Line2D]:
    """Return the legend entries; a single predictor needs no marker entry."""
    lines = [Line2D([], [], color=c, linestyle=d, label=label) for _, label, c, d in _LINES]
    if len(graded) > 1:
        lines += [
            Line2D([], [], color=_INK, linestyle="", marker=m, label=_label(entry["name"]))
            for entry, m in zip(graded, _MARKERS * len(graded), strict=False)
        ]
    lines.append(Line2D([], [], color="#999999", linewidth=0.8, label="most drafts right"))
    return lines


def _label(name: str) -> str:
    parts = short_name(name).split("+")
    short = (
        part if len(part) <= _MAX_NAME_CHARS else f"…{part[1 - _MAX_NAME_CHARS :]}"
        for part in parts
    )
    return "\n+ ".join(short)


def _value(estimate: Mapping[str, Any] | None) -> float:
    return 0.0 if estimate is None else float(estimate["value"])
