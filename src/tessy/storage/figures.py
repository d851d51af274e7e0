"""Figures as SVG files that are the same bytes for the same data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

_STYLE: dict[str, Any] = {
    "svg.hashsalt": "tessy",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def figure_of(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure (inches) to draw on in the block.

    Its background is white, so that it is legible on light and dark pages.
    """
    with style.context(_STYLE, after_reset=True):
        yield Figure(figsize=(width, height), layout="constrained", facecolor="white")


def svg(figure: Figure) -> bytes:
    """Return the figure as SVG; called in the block of :func:`figure_of`."""
    out = BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "tessy"})
    return out.getvalue()
