"""LiveCodeBench-Pro: ``benchmark_result.json`` of its toolkit.

Source: https://github.com/GavinZhengOI/LiveCodeBench-Pro, ``benchmark.py`` and ``judge.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tessy.core.records import Evaluation, EvaluationOutcome
from tessy.evaluation.official.base import OfficialJudge, OfficialVerdict
from tessy.evaluation.official.light_cp_verifier import FAILED, submit_and_wait
from tessy.evaluation.official.rows import read_verdicts, sample_of
from tessy.evaluation.sources.base import text_of
from tessy.storage.conversations import BadField
from tessy.storage.jsonl import dumps

NOT_JUDGED = "Judging"
_ACCEPTED = "Accepted"


def _export(rows: Sequence[Evaluation]) -> bytes:
    entries = [
        {
            "problem_id": row.id,
            **{name: row.problem.get(name) or "" for name in ("problem_title", "difficulty")},
            "platform": row.problem.get("platform") or "",
            "text_response": row.answer,
            "code": row.final_answer,
            "judge_result": NOT_JUDGED,
            "response_meta": {"sample": row.sample},
        }
        for row in rows
    ]
    return dumps(entries, indent=2) + b"\n"


def _verdict(row: dict[str, Any]) -> OfficialVerdict:
    result = text_of(row, "judge_result")
    if result == NOT_JUDGED:
        raise BadField("judge_result", "expected a verdict, but this response is not judged yet")
    meta = row.get("response_meta")
    sample = sample_of(meta if isinstance(meta, dict) else {})
    return OfficialVerdict((text_of(row, "problem_id"), sample), _outcome(result), result)


def _outcome(result: str) -> EvaluationOutcome:
    if result == FAILED:  # the judge, or the compiler
        return "judge_error"
    return "correct" if result == _ACCEPTED else "wrong"


async def _submit(url: str, rows: Sequence[Evaluation]) -> list[OfficialVerdict]:
    found = zip(rows, await submit_and_wait(url, rows), strict=True)
    return [OfficialVerdict(row.key, _outcome(result), result) for row, result in found]


def _verdicts(file: Path) -> Iterator[OfficialVerdict]:
    return read_verdicts(file, _verdict)


JUDGE = OfficialJudge(
    name="LightCPVerifier",
    benchmarks=("lcb-pro",),
    export=_export,
    verdicts=_verdicts,
    next_step=(
        "Submit each `code` for its `problem_id` to LightCPVerifier, replace `judge_result` by the "
        "result, and pass the file with --verdicts; or let --url submit them."
    ),
    submit=_submit,
)
