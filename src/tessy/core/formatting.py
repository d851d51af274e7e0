"""Human-readable numbers and Markdown tables (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

NONE = "–"  # placeholder for a missing figure


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as ``12.3 %``; :data:`NONE` if it is None."""
    return NONE if share is None else f"{percentage(share, digits)} %"


def percentage(share: float, digits: int = 1) -> str:
    """Return a share as ``12.3``, without the percent sign."""
    return f"{_percents(share, digits)}"


def points(difference: float, digits: int = 1) -> str:
    """Return a difference of shares in percentage points: ``+12.3``, rounded as the shares."""
    return f"{_percents(difference, digits):+}"


def _percents(share: float, digits: int) -> Decimal:
    """Return hundredths, with halves rounded away from zero and no negative zero.

    The nearest float of a decimal half may be below it: that of 0.0705 is.
    """
    exact = Decimal(repr(round(share, 12))) * 100
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return rounded if rounded else abs(rounded)


def interval(
    low: float | None, high: float | None, show: Callable[[float], str], between: str = "–"
) -> str:
    """Return ``low–high``, each formatted by ``show``; empty if an end is missing."""
    return "" if low is None or high is None else f"{show(low)}{between}{show(high)}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 unit``, ``1,024 units``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def tally(counts: Mapping[str, int]) -> str:
    """Return counts by name on one line: ``budget 1,024, repetition 2``."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def short_count(value: float) -> str:
    """Return a count with four digits if it is large: ``1.234 M``, ``56.78 bn``."""
    for unit, size in (("bn", 1e9), ("M", 1e6)):
        if round(value) >= size:
            return f"{value / size:,.{max(0, 4 - len(str(int(value / size))))}f} {unit}"
    return f"{value:,.0f}"


def size(count: float) -> str:
    """Return bytes with three digits: ``999 B``, ``1.23 kB``, ``45.6 GB``."""
    unit, *larger = ("B", "kB", "MB", "GB", "TB")
    while round(count) >= 1000 and larger:
        count /= 1000
        unit = larger.pop(0)
    return f"{count:,.0f} {unit}" if count >= 100 else f"{count:.3g} {unit}"


def duration(seconds: float) -> str:
    """Return seconds as ``4.2 s``, ``12 min 05 s`` or ``3 h 07 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table that ends with a newline; a ``|`` in a cell is escaped."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (columns, *rows)]
    head, *body = [f"| {' | '.join(row)} |\n" for row in escaped]
    return f"{head}|{'---|' * len(columns)}\n{''.join(body)}"
