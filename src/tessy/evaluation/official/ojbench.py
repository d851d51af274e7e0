"""OJBench's own judge (``ojbench.judge_jsonl``), which keeps unknown fields of its input rows.

Source: https://github.com/He-Ren/OJBench, ``ojbench/judger.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tessy.core.records import Evaluation, EvaluationOutcome
from tessy.evaluation.official.base import OfficialJudge, OfficialVerdict
from tessy.evaluation.official.rows import read_verdicts, sample_of
from tessy.evaluation.sources.base import text_of
from tessy.evaluation.sources.ojbench import ORIGINAL_ID, original_id
from tessy.storage.conversations import BadField
from tessy.storage.jsonl import dump_line

_INTERNAL_ERROR = "IE"


def _export(rows: Sequence[Evaluation]) -> bytes:
    lines = []
    for row in rows:
        fields = dict(row.problem)
        original = {"id": fields.pop(ORIGINAL_ID), "prompt": _prompt(row), **fields}
        lines.append(dump_line({**original, "content": row.answer, "sample": row.sample}))
    return b"".join(lines)


def _prompt(row: Evaluation) -> str:
    return next(turn.content for turn in row.messages if turn.role == "user")


def _verdict(row: dict[str, Any]) -> OfficialVerdict:
    language, verdict = text_of(row, "language"), text_of(row, "verdict")
    name = original_id(row.get("id"))
    passed = row.get("is_passed")
    if not isinstance(passed, bool):
        raise BadField("is_passed", f"expected true or false, got {passed!r:.40}")
    skipped = row.get("is_skip")
    if skipped not in (None, True, False):
        raise BadField("is_skip", f"expected true or false, got {skipped!r:.40}")
    outcome: EvaluationOutcome = "correct" if passed else "wrong"
    if verdict == _INTERNAL_ERROR:
        outcome = "judge_error"
    content = row.get("content")
    answer = content if isinstance(content, str) else None
    return OfficialVerdict((f"{name}-{language}", sample_of(row)), outcome, verdict, answer)


def _verdicts(file: Path) -> Iterator[OfficialVerdict]:
    return read_verdicts(file, _verdict)


JUDGE = OfficialJudge(
    name="OJBench",
    benchmarks=("ojbench",),
    export=_export,
    verdicts=_verdicts,
    next_step="Judge it with ojbench.judge_jsonl, and pass its output with --verdicts.",
)
