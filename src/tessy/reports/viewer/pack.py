"""Rows, packed for a page: a small index of all samples and their texts in compressed blocks.

The index is read when the page opens; a block is unpacked when one of its samples is looked at or
searched. Text of a sample is sent as ``[author, words]`` pieces, never as offsets: rows count code
points, scripts count UTF-16 units.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tessy.core.records import Failure, Trajectory
from tessy.runtime.terminal import row_notes

BLOCK_CHARS = 300_000  # JSON characters a block holds before it is closed
EXCERPT_CHARS = 160

# JSON inside of HTML: the first may end a script element or a line of it, half a surrogate pair
# cannot be written as UTF-8 at all.
_ESCAPED = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def script_json(value: object) -> str:
    """``value`` as JSON that can stand in an HTML script element whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@dataclass(frozen=True, slots=True)
class PackLimits:
    """How much one page holds; what lies beyond is counted in the totals and said to be left out.

    Attributes:
        rows: Finished samples; failures have the same number to themselves.
        text_bytes: Compressed text in the page, of which finished samples take at most three
            quarters, so that failures can still be looked at.
    """

    rows: int = 10_000
    text_bytes: int = 100 * 2**20


@dataclass(slots=True)
class Packed:
    """What a page holds.

    Attributes:
        index: One list a sample, as :func:`index_entry` makes it.
        blocks: Base64 of zlib streams of JSON arrays, each of the details of its samples.
        block_chars: JSON characters of each block.
        left_out: Finished samples and failures that are not in the page.
    """

    index: list[list[Any]] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    block_chars: list[int] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=lambda: {"finished": 0, "failed": 0})


class Packer:
    """Packs rows one by one, in the order the page lists them by default."""

    def __init__(self, limits: PackLimits) -> None:
        """Start an empty page."""
        self._limits = limits
        self._packed = Packed()
        self._open: list[str] = []
        self._open_chars = 0
        self._bytes = 0
        self._rows = {"finished": 0, "failed": 0}

    def add(self, row: Trajectory | Failure) -> None:
        """Pack ``row``, or count it as left out if the page is full."""
        kind = "failed" if isinstance(row, Failure) else "finished"
        room = self._limits.text_bytes * (1.0 if kind == "failed" else 0.75)
        left_out = self._packed.left_out
        # Once one is left out all later ones are: the page holds the first N, not a selection.
        if left_out[kind] or self._rows[kind] >= self._limits.rows or self._bytes >= room:
            left_out[kind] += 1
            return
        self._rows[kind] += 1
        self._packed.index.append([*index_entry(row), len(self._packed.blocks), len(self._open)])
        text = json.dumps(detail(row), separators=(",", ":"))
        self._open.append(text)
        self._open_chars += len(text)
        if self._open_chars >= BLOCK_CHARS:
            self._close_block()

    def result(self) -> Packed:
        """Return everything packed."""
        if self._open:
            self._close_block()
        return self._packed

    def _close_block(self) -> None:
        text = f"[{','.join(self._open)}]"
        block = base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")
        self._packed.blocks.append(block)
        self._packed.block_chars.append(len(text))
        self._bytes += len(block)
        self._open, self._open_chars = [], 0


def index_entry(row: Trajectory | Failure) -> list[Any]:
    """Return what the list shows, filters and sorts by.

    Returns:
        id, sample, outcome (``finished`` or the reason), the teacher's share of the thinking's
        tokens in [0, 1] or None, thinking tokens, answer tokens, seconds, attempts, excerpt.
    """
    tokens = row.tokens
    thinking = tokens.student + tokens.teacher
    return [
        row.id,
        row.sample,
        row.reason if isinstance(row, Failure) else "finished",
        round(tokens.teacher / thinking, 4) if thinking else None,
        thinking,
        tokens.answer,
        round(row.seconds, 1),
        row.attempts,
        _excerpt(row),
    ]


def detail(row: Trajectory | Failure) -> dict[str, Any]:
    """Return everything else about a sample."""
    question = _question_end(row)
    return {
        "turns": [[turn.role, turn.content] for turn in row.messages[:question]],
        "pieces": [
            [0 if span.author == "student" else 1, row.thinking[span.start : span.end]]
            for span in row.spans
        ],
        "answer": row.answer,
        "detail": row.detail if isinstance(row, Failure) else "",
        "strategy": row.strategy,
        "answerBy": row.answer_by,
        "scores": dict(row_notes(row)).get("candidates' scores", ""),
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


def readable(items: Iterable[tuple[str, Any]]) -> list[list[str]]:
    """Return names and values as text: a script's numbers would lose digits of large integers."""
    return [[name, value if isinstance(value, str) else _json_text(value)] for name, value in items]


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _pair(by_author: dict[Any, int]) -> list[int]:
    return [by_author.get("student", 0), by_author.get("teacher", 0)]


def _question_end(row: Trajectory | Failure) -> int:
    """Return the number of messages up to the last user turn; all of them if there is none."""
    for number in range(len(row.messages), 0, -1):
        if row.messages[number - 1].role == "user":
            return number
    return len(row.messages)


def _excerpt(row: Trajectory | Failure) -> str:
    end = _question_end(row)
    text = row.messages[end - 1].content[: 4 * EXCERPT_CHARS] if end else ""
    return " ".join(text.split())[:EXCERPT_CHARS]
