"""The summary of an annotation run, computed from its rows: summary.json and its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from tessy.core.errors import reason_labels
from tessy.core.formatting import duration, interval, percent, tally
from tessy.core.records import Annotation, FailedAnnotation
from tessy.core.statistics import Case, share
from tessy.runtime.terminal import facts_table


def summarise(
    annotations: Iterable[Annotation],
    failures: Iterable[FailedAnnotation],
    *,
    responses: Mapping[str, int],
    seconds: float,
) -> dict[str, Any]:
    """Summarise the rows of a directory of annotations; returns the content of summary.json.

    ``responses`` has the number of ``used`` and of ``failed`` ones, which were skipped. Shares are
    in [0, 1], None without data; ``style_chars`` is the mean share of characters marked style. The
    confidence interval is clustered by problem.
    """
    cases: list[Case] = []
    accepted, retried, spans, shares = 0, 0, 0, 0.0
    for row in annotations:
        accepted += 1
        cases.append(Case(row.question, 1))
        retried += row.attempts > 1
        spans += len(row.style)
        shares += sum(span.end - span.start for span in row.style) / len(row.text)
    reasons: Counter[str] = Counter()
    for failure in failures:
        reasons[failure.reason] += 1
        cases.append(Case(failure.question, 0))
        retried += failure.attempts > 1
    n = accepted + reasons.total()
    rate = share(cases)
    return {
        "responses": dict(responses),
        "segments": {
            "n": n,
            "accepted": accepted,
            "failed": reasons.total(),
            "retried": retried,
            "acceptance_rate": rate and round(rate.value, 4),
            "acceptance_rate_95": rate
            and [round(end, 4) for end in (rate.low, rate.high) if end is not None],
        },
        "failures": dict(reasons.most_common()),
        "style_chars": round(shares / accepted, 4) if accepted else None,
        "style_spans_per_segment": round(spans / accepted, 2) if accepted else None,
        "seconds": {"wall": round(seconds, 3)},
    }


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return the result of :func:`summarise` as a table."""
    responses, segments = summary["responses"], summary["segments"]
    skipped = f", {responses['failed']:,} failed ones skipped" if responses["failed"] else ""
    lines = [
        ("Responses", Text(f"{responses['used']:,}{skipped}")),
        ("Segments", Text(f"{segments['n']:,}, {segments['accepted']:,} accepted")),
    ]
    if segments["n"]:
        rate = percent(segments["acceptance_rate"])
        low, high = segments["acceptance_rate_95"]
        ends = interval(low, high, percent, " to ")
        lines.append(("Acceptance rate", Text(f"{rate} (95 %: {ends}, n = {segments['n']:,})")))
        lines.append(("Retried", Text(f"{segments['retried']:,}")))
    if summary["failures"]:
        lines.append(("Failures", Text(tally(reason_labels(summary["failures"])), style="red")))
    if summary["style_chars"] is not None:
        style_share = f"{percent(summary['style_chars'])} of a segment's characters on average"
        lines.append(("Style", Text(f"{style_share}, {summary['style_spans_per_segment']} spans")))
    lines.append(("Wall clock", Text(duration(summary["seconds"]["wall"]))))
    return facts_table("Annotations", lines)
