"""Terminal output: a sample, and the final table of a run.

Model output is untrusted: control characters, escape sequences and bidirectional controls are
printed as visible symbols.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tessy.core.errors import reason_label, reason_labels
from tessy.core.formatting import counted, duration, percent, tally
from tessy.core.records import AUTHORS, Author, Evaluation, Failure, Restyling, Trajectory

# The student's text is also bold and underlined, so that authors differ without colours.
AUTHOR_COLOURS: Mapping[Author, str] = {"student": "magenta", "teacher": "cyan"}
AUTHOR_STYLES: Mapping[Author, str] = {
    **AUTHOR_COLOURS,
    "student": f"bold underline {AUTHOR_COLOURS['student']}",
}
_LONG_NAME = 14  # characters of a name that is replaced by a number where the table is too wide
MARKS = ("⟦", "⟧")  # around the student's text where styles are unavailable

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Replace control characters in ``text`` by symbols or escapes."""
    return _UNSAFE.sub(_symbol, text.replace("\r\n", "\n"))


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"\\u{code:04x}"


def thinking_text(row: Trajectory | Failure, *, marks: bool) -> Text:
    """Return the thinking with a style per author; ``marks`` also encloses the student's text."""
    text = Text(overflow="fold")
    opening, closing = MARKS if marks else ("", "")
    for span in row.spans:
        words = visible(row.thinking[span.start : span.end])
        if span.author == "teacher":
            text.append(words, style=AUTHOR_STYLES["teacher"])
            continue
        # Do not underline or mark white space at the ends of a span.
        body = words.strip()
        head = words[: len(words) - len(words.lstrip())]
        tail = words[len(head) + len(body) :]
        text.append(head)
        if body:
            text.append(f"{opening}{body}{closing}", style=AUTHOR_STYLES["student"])
        text.append(tail)
    return text


def print_sample(console: Console, row: Trajectory | Failure) -> None:
    """Print problem, thinking by author with a legend, answer and counts."""
    marks = not console.is_terminal
    _heading(console, f"Problem  {visible(row.id)} · sample {row.sample}")
    problem = next((turn.content for turn in reversed(row.messages) if turn.role == "user"), "")
    _body(console, Text(visible(problem), overflow="fold"))
    _heading(console, "Thinking", _legend(marks))
    _body(console, thinking_text(row, marks=marks))
    _heading(console, "Answer")
    _body(console, Text(visible(row.answer), overflow="fold"))
    if isinstance(row, Failure):
        reason = reason_label(row.reason)
        console.print(Text(f"Failed: {reason}. {visible(row.detail)}", style="bold red"))
    console.print(Text(_counts(row), style="dim"))


def _heading(console: Console, title: str, note: Text | None = None) -> None:
    line = Text(title, style="bold")
    console.print(Text.assemble(line, "  ", note) if note else line)


def _body(console: Console, text: Text) -> None:
    console.print(Padding(text or Text("(empty)", style="dim"), (0, 0, 1, 2)))


def _legend(marks: bool) -> Text:
    opening, closing = MARKS if marks else ("", "")
    return Text.assemble(
        (f"{opening}student{closing}", AUTHOR_STYLES["student"]),
        "  ",
        ("teacher", AUTHOR_STYLES["teacher"]),
    )


def row_notes(row: Trajectory | Evaluation | Failure) -> list[tuple[str, str]]:
    """Return names and values of what differs from the paper's method in a row."""
    notes = []
    if row.strategy != "tessy":
        notes.append(("strategy", row.strategy))
    if row.answer_by != "student":
        notes.append(("answer by", row.answer_by))
    if row.scores:
        scores = [
            reason_label(row.unscored.get(number, "none")) if score is None else f"{score:g}"
            for number, score in enumerate(row.scores)
        ]
        notes.append(("candidates' scores", ", ".join(scores)))
    if row.restyle is not None:
        notes.append(("places", restyling_note(row.restyle)))
    return notes


def restyling_note(restyle: Restyling) -> str:
    """Return how the style of a row was chosen, such as ``4 (32 candidates, effective 5.2)``."""
    places = len(restyle.draws)
    effective = f"{sum(restyle.effective) / places:.1f}" if places else "none"
    parts = [counted(sum(restyle.draws), "candidate"), f"effective {effective} a place"]
    parts += [f"{restyle.empty} empty"] * bool(restyle.empty)
    parts += [f"{restyle.unfit} with the trace's words"] * bool(restyle.unfit)
    return f"{places} ({', '.join(parts)})"


def _counts(row: Trajectory | Failure) -> str:
    tokens = row.tokens
    thinking = tokens.student + tokens.teacher
    student, teacher = (
        percent(part / thinking if thinking else None) for part in (tokens.student, tokens.teacher)
    )
    parts = [
        *(f"{name} {value}" for name, value in row_notes(row)),
        f"{thinking:,} thinking tokens: student {student}, teacher {teacher}",
        f"{tokens.answer:,} answer tokens",
        counted(len(row.spans), "span"),
        counted(row.attempts, "attempt"),
        duration(row.seconds),
    ]
    return " · ".join(parts)


def plain_table(title: str | None = None) -> Table:
    """Return an empty table without rules."""
    return Table(title=title, title_justify="left", box=None, pad_edge=False)


def facts_table(title: str, facts: Iterable[tuple[str, Text]]) -> Table:
    """Return a table of labels and values."""
    table = plain_table(title)
    table.show_header = False
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts:
        table.add_row(label, value)
    return table


class FiguresTable:
    """A table of named rows of figures. Long names that do not fit stand above it, by number."""

    def __init__(self, title: str, *columns: str, style: str = "") -> None:
        """Create a table without rows; ``columns`` are the headings of the figures."""
        self._title, self._columns, self._style = title, columns, style
        self._rows: list[tuple[Text, tuple[str | Text, ...]]] = []

    def add_row(self, name: str | Text, *figures: str | Text) -> None:
        """Add a row."""
        self._rows.append((Text(name) if isinstance(name, str) else name, figures))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = [name for name, _ in self._rows]
        yield Text(self._title, style="table.title")  # a table wraps its own title at its width
        table = self._table(names)
        unlimited = options.update(max_width=10_000)
        if Measurement.get(console, unlimited, table).maximum > options.max_width:
            long = list({name.plain: None for name in names if name.cell_len > _LONG_NAME})
            for number, name in enumerate(long, 1):
                yield Text(f"  [{number}] {name}", overflow="fold")
            numbers = {name: Text(f"[{number}]") for number, name in enumerate(long, 1)}
            table = self._table([numbers.get(name.plain, name) for name in names])
        yield table

    def _table(self, names: Sequence[Text]) -> Table:
        table = plain_table()
        table.add_column("", no_wrap=True, style=self._style)
        for column in self._columns:
            table.add_column(column, justify="right")
        for name, (_, figures) in zip(names, self._rows, strict=True):
            table.add_row(name, *figures)
        return table


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return the final table of a run from its :func:`~tessy.runtime.summary.summarize`."""
    return facts_table("Run", _lines(summary))


def _lines(summary: Mapping[str, Any]) -> list[tuple[str, Text]]:
    samples, tokens = summary["samples"], summary["tokens"]
    drafted, rolled_back = tokens["drafted"], tokens["rolled_back_share"]
    finished = f"{samples['finished']:,} finished, {samples['failed']:,} failed"
    samples_text = Text(f"{finished} ({samples['attempts']:,} attempts)")
    lines = [("Samples", samples_text), *_restyling(summary.get("restyle"))]
    strategies = summary["strategies"]
    if strategies.keys() - {"tessy", "sample", "evaluate"}:
        lines.append(("Strategies", Text(tally(strategies))))
    if summary["failures"]:
        lines.append(("Failures", Text(tally(reason_labels(summary["failures"])), style="red")))
    authors = [author for author in AUTHORS if summary["requests"][author]] or list(AUTHORS)
    in_turns = "tessy" in strategies or not strategies
    for author in authors:
        text = f"{tokens[author]:,} tokens of thinking"
        if len(authors) > 1:
            text = f"{tokens[author]:,} tokens ({percent(tokens['share'][author])} of the thinking)"
            text += f", {drafted[author]:,} drafted"
            text += " (own tokens)" if author == "teacher" else ""
            if in_turns:
                text += f", {percent(rolled_back[author])} rolled back"
        lines.append((author.capitalize(), Text(text, style=AUTHOR_COLOURS[author])))
    if len(authors) > 1 and any(summary["forced"].values()):
        counts = _each(summary["forced"], authors, "")
        lines.append(
            ("Forced units", Text(f"{counts} (kept although neither author would continue)"))
        )
    by = [author for author in AUTHORS if summary["answer_by"][author]]
    authors_text = f" by the {' and the '.join(by)}" if "teacher" in by else ""
    lines.append(("Answers", Text(f"{tokens['answer']:,} tokens{authors_text}")))
    lines += [
        (f"{part.capitalize()} length", Text(_length(lengths)))
        for part, lengths in summary["lengths"].items()
    ]
    wasted = tokens["drafted_in_failures"]
    if any(wasted.values()):
        lines.append(("Lost in failures", Text(_each(wasted, authors, "drafted tokens"))))
    generated = _each(tokens["generated"], authors, "tokens")
    unseen = tokens["unseen"]
    if any(unseen.values()):
        generated += f"; of them {_each(unseen, authors, '')} not received (stop tokens, estimate)"
    lines.append(("Generated", Text(generated)))
    if session := summary.get("session"):
        by = list(session["servers"])
        text = f"{_each(session['servers'], by, 'tokens')} in this session, where this run counts "
        lines.append(("Servers' count", Text(text + _each(session["generated"], by, ""))))
    lines.append(("Requests", Text(_each(summary["requests"], authors, ""))))
    return lines + _times(summary["seconds"])


def _restyling(restyle: Mapping[str, Any] | None) -> list[tuple[str, Text]]:
    if restyle is None:
        return []
    text = (
        f"{restyle['places']:,} ({restyle['empty']:,} without words, {restyle['unfit']:,} with the "
        "trace's words because no candidate fits)"
    )
    lines = [("Places", Text(text))]
    if restyle["places"]:
        drawn = (
            f"{restyle['candidates']:,} ({restyle['candidates'] / restyle['places']:.1f} a place, "
            f"effective sample size {restyle['effective_mean']:.1f})"
        )
        lines.append(("Candidates", Text(f"{drawn}, {restyle['scored_tokens']:,} tokens scored")))
    return lines


def _times(seconds: Mapping[str, Any]) -> list[tuple[str, Text]]:
    lines = []
    if seconds["wall"] is not None:
        lines.append(("Wall clock", Text(duration(seconds["wall"]))))
    parts = seconds["parts"]
    if parts:
        times = ", ".join(f"{part} {duration(value)}" for part, value in parts.items())
        lines.append(("Time by part", Text(f"{times} (summed over samples)")))
    return lines


def _each(counts: Mapping[str, int], authors: Sequence[Author], what: str) -> str:
    return f"{tally({author: counts[author] for author in authors})} {what}".rstrip()


def _length(lengths: Mapping[str, float | None]) -> str:
    if lengths["mean"] is None:
        return "none"
    return (
        f"mean {lengths['mean']:,.0f}, median {lengths['median']:,}, "
        f"p80 {lengths['p80']:,}, longest {lengths['max']:,} tokens"
    )
