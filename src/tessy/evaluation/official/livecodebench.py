"""LiveCodeBench: the input of ``lcb_runner.runner.custom_evaluator``, for its own scores.

The evaluator sorts problems by id and needs all of them, each with as many programs.

Source: https://github.com/LiveCodeBench/LiveCodeBench, ``lcb_runner/runner/custom_evaluator.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tessy.core.errors import ConfigError
from tessy.core.records import Evaluation
from tessy.evaluation.official.base import OfficialJudge
from tessy.storage.jsonl import dumps


def _export(rows: Sequence[Evaluation]) -> bytes:
    programs: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.key):
        programs.setdefault(row.id, []).append(row.final_answer or "")
    counts = {len(each) for each in programs.values()}
    if len(counts) > 1:
        raise ConfigError(
            f"the problems of the run have from {min(counts)} to {max(counts)} responses, but the "
            "official evaluator needs as many for each; resume the run until it is complete"
        )
    return dumps([{"question_id": n, "code_list": c} for n, c in programs.items()], indent=2)


JUDGE = OfficialJudge(
    name="lcb_runner",
    benchmarks=("lcb-v5", "lcb-v5-window", "lcb-v6"),
    export=_export,
    verdicts=None,
    next_step="Evaluate it with lcb_runner.runner.custom_evaluator --custom_output_file.",
)
