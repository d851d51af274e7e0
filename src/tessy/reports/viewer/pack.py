"""Packing of rows for a page: a small index of all samples, and their texts in compressed blocks.

The page loads the index when it opens, and unpacks a block when it needs one of its samples.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable
from functools import partial
from typing import Any

from tessy.core.errors import reason_label
from tessy.core.records import Evaluation, Failure, Trajectory
from tessy.runtime.terminal import row_notes

BLOCK_CHARS = 300_000  # JSON characters after which a block is closed
EXCERPT_CHARS = 160

# For JSON in HTML: characters that can end a script element or a line, and lone surrogates, which
# cannot be encoded as UTF-8.
_ESCAPED = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def script_json(value: object) -> str:
    """Return ``value`` as JSON that is safe inside an HTML script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Packer:
    """Packs rows one by one, in the default order of the list; call :meth:`finish` at the end.

    The page has at most ``max_rows`` finished samples, as many failed ones, and ``max_bytes`` of
    compressed texts. Further samples count in the totals and are reported as left out.

    """

    def __init__(self, max_rows: int = 10_000, max_bytes: int = 100 * 2**20) -> None:
        # The index entry of each sample, followed by its block and its position in the block.
        self.index: list[list[Any]] = []
        self.blocks: list[str] = []  # base64 of zlib streams of JSON arrays
        self.block_chars: list[int] = []  # of JSON
        self.left_out = {"finished": 0, "failed": 0}
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._open: list[str] = []
        self._open_chars = 0
        self._bytes = 0
        self._rows = {"finished": 0, "failed": 0}

    def add(self, row: Trajectory | Evaluation | Failure) -> None:
        """Pack ``row``, or count it as left out if the page is full."""
        outcome = "failed" if isinstance(row, Failure) else "finished"
        # Finished samples leave space for failures.
        max_bytes = self._max_bytes * (1.0 if outcome == "failed" else 0.75)
        # The page contains the first N samples, so after the first one left out, all are.
        full = self._rows[outcome] >= self._max_rows or self._bytes >= max_bytes
        if self.left_out[outcome] or full:
            self.left_out[outcome] += 1
            return
        self._rows[outcome] += 1
        self.index.append([*index_entry(row), len(self.blocks), len(self._open)])
        text = json.dumps(detail(row), separators=(",", ":"))
        self._open.append(text)
        self._open_chars += len(text)
        if self._open_chars >= BLOCK_CHARS:
            self.finish()

    def finish(self) -> None:
        """Close the current block."""
        if not self._open:
            return
        text = f"[{','.join(self._open)}]"
        block = base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")
        self.blocks.append(block)
        self.block_chars.append(len(text))
        self._bytes += len(block)
        self._open, self._open_chars = [], 0


def index_entry(row: Trajectory | Evaluation | Failure) -> list[Any]:
    """Return the values that the list shows, filters and sorts by."""
    tokens = row.tokens
    thinking = tokens.student + tokens.teacher
    return [
        row.id,
        row.sample,
        _outcome(row),
        # teacher's share of the thinking tokens in [0, 1]
        round(tokens.teacher / thinking, 4) if thinking else None,
        thinking,
        tokens.answer,
        round(row.seconds, 1),
        row.attempts,
        _excerpt(row),
    ]


_CHOICES = ("candidates' scores", "places")  # notes on how a row's text was chosen


def detail(row: Trajectory | Evaluation | Failure) -> dict[str, Any]:
    """Return the other values of a sample."""
    end = _problem_end(row)
    return {
        "turns": [[turn.role, turn.content] for turn in row.messages[:end]],
        # Texts, because offsets in rows count code points but JavaScript counts UTF-16 units.
        "pieces": [
            [0 if span.author == "student" else 1, row.thinking[span.start : span.end]]
            for span in row.spans
        ],
        "answer": row.answer,
        "detail": "" if isinstance(row, Trajectory) else row.detail,
        "verdict": _verdict(row) if isinstance(row, Evaluation) else [],
        "strategy": row.strategy,
        "answerBy": row.answer_by,
        "choices": [[name, value] for name, value in row_notes(row) if name in _CHOICES],
        "reference": row.reference_answer or "",
        "endedBy": row.ended_by if isinstance(row, Trajectory) else None,
        "tokens": [row.tokens.student, row.tokens.teacher],
        "drafted": _pair(row.tokens.drafted),
        "forced": _pair(row.forced),
        "glued": row.glued,
        "requests": _pair(row.cost.requests),
        "parts": [[part, round(value, 2)] for part, value in sorted(row.cost.seconds.items())],
        "problem": readable(row.problem.items()),
    }


def _outcome(row: Trajectory | Evaluation | Failure) -> str:
    if isinstance(row, Trajectory):
        return "finished"
    return row.outcome if isinstance(row, Evaluation) else row.reason


def _verdict(row: Evaluation) -> list[list[str]]:
    """Return names and values of how a response was judged."""
    reason = reason_label(row.reason) if row.reason else ""
    found = "none" if row.final_answer is None else row.final_answer
    place = f"{row.judge}, {row.rule}" if row.rule else row.judge
    # Programs have no reference.
    reference = [["reference", row.reference]] if row.reference else []
    fields = [["final answer", found], *reference, ["judge", place]]
    return [*fields, ["reason", reason]] if reason else fields


def readable(items: Iterable[tuple[str, Any]]) -> list[list[str]]:
    """Return names and values as text, because JavaScript numbers lose digits of large integers."""
    as_json = partial(json.dumps, ensure_ascii=False, indent=2, default=str)
    return [[name, value if isinstance(value, str) else as_json(value)] for name, value in items]


def _pair(by_author: dict[Any, int]) -> list[int]:
    return [by_author.get("student", 0), by_author.get("teacher", 0)]


def _problem_end(row: Trajectory | Evaluation | Failure) -> int:
    """Return the number of messages up to the last user turn, or of all if there is none."""
    users = [number for number, turn in enumerate(row.messages, 1) if turn.role == "user"]
    return users[-1] if users else len(row.messages)


def _excerpt(row: Trajectory | Evaluation | Failure) -> str:
    end = _problem_end(row)
    text = row.messages[end - 1].content[: 4 * EXCERPT_CHARS] if end else ""
    return " ".join(text.split())[:EXCERPT_CHARS]
