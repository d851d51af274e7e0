"""From a generated sample to its row: a judged response, or a failure that is no answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from tessy.answers.maths import UndecidedError
from tessy.core.errors import FailureReason, TessyError
from tessy.core.records import Evaluation, EvaluationOutcome, Failure, Trajectory
from tessy.evaluation.judges.base import Verdict
from tessy.evaluation.load import JudgedProblem
from tessy.runtime.runner import JobResult

# Failures by the model. All others are failures of servers or options, and have no score.
OUTCOMES: Mapping[FailureReason, EvaluationOutcome] = {
    "budget": "truncated",
    "repetition": "truncated",
    "eos_in_thinking": "no_answer",
    "empty_answer": "no_answer",
    "control_in_answer": "no_answer",
}

log = logging.getLogger(__name__)


def _one_thread() -> ThreadPoolExecutor:
    # A judge that takes seconds must not occupy the threads that write rows.
    return ThreadPoolExecutor(1, thread_name_prefix="judge")


@dataclass
class Grader:
    """Judges responses; ``judged`` has judge and reference by the problem's id."""

    judged: Mapping[str, JudgedProblem]
    _thread: ThreadPoolExecutor = field(default_factory=_one_thread)

    async def finish(self, result: JobResult) -> JobResult:
        """Return the result with the row of an evaluation, or the failure if it has no score.

        Only a finished answer is judged, never an unfinished thinking.
        """
        if isinstance(result.failure, Failure):
            failure = result.failure
            outcome = OUTCOMES.get(failure.reason)
            if outcome is None:
                return result
            row = self._row(failure, outcome, detail=failure.detail, reason=failure.reason)
            return replace(result, row=row, failure=None)
        assert isinstance(result.row, Trajectory)
        loop = asyncio.get_running_loop()
        return replace(result, row=await loop.run_in_executor(self._thread, self.grade, result.row))

    def grade(self, row: Trajectory) -> Evaluation:
        """Judge a finished response. Blocks; TessyError if the judge cannot work at all."""
        problem = self.judged[row.id]
        try:
            verdict = problem.judge.decide(row.answer, problem.reference, row.problem)
        except UndecidedError as error:
            return self._row(row, "judge_error", detail=str(error))
        except TessyError:
            raise
        except Exception as error:  # of a judge or its library, on text of a model
            log.exception("%s/%d: the judge failed", row.id, row.sample)
            return self._row(row, "judge_error", detail=f"{type(error).__name__}: {error}")
        if verdict is None:
            return self._row(row, "no_answer", detail="the response contains no final answer")
        return self._row(row, "correct" if verdict.correct else "wrong", verdict)

    def close(self) -> None:
        """Stop the judge's thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _row(
        self,
        row: Trajectory | Failure,
        outcome: EvaluationOutcome,
        verdict: Verdict | None = None,
        *,
        detail: str = "",
        reason: FailureReason | None = None,
    ) -> Evaluation:
        problem = self.judged[row.id]
        common = row.model_dump(exclude={"student_ids", "ended_by", "reason", "detail"})
        return Evaluation(
            **common,
            outcome=outcome,
            final_answer=verdict and verdict.final_answer,
            reference=problem.reference,
            judge=problem.judge.title,
            rule=verdict.rule if verdict else "",
            reason=reason,
            detail=detail,
        )
