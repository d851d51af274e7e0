"""Turns a generated sample into its row: a judged response, or a failure without a score."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from tessy.answers.maths import UndecidedError
from tessy.core.errors import FailureReason, TessyError
from tessy.core.records import Evaluation, EvaluationOutcome, Failure, Trajectory
from tessy.evaluation.judges.base import Judge, Verdict
from tessy.evaluation.load import JudgedProblem
from tessy.evaluation.programs.base import ProgramJudge, ProgramVerdict
from tessy.evaluation.programs.task import ProgramTask
from tessy.runtime.runner import JobResult

# Failures by the model. All others are failures of servers or options, and have no score.
OUTCOMES: Mapping[FailureReason, EvaluationOutcome] = {
    "budget": "truncated",
    "repetition": "truncated",
    "eos_in_thinking": "no_answer",
    "empty_answer": "no_answer",
    "control_in_answer": "no_answer",
}

_DETAIL_CHARS = 2000

log = logging.getLogger(__name__)


def _one_thread() -> ThreadPoolExecutor:
    # A judge that takes seconds must not occupy the threads that write rows.
    return ThreadPoolExecutor(1, thread_name_prefix="judge")


@dataclass
class Grader:
    """Judges responses while others are generated.

    Attributes:
        judged: Judge and reference, or tests, by the problem's id.
        programs: Runs programs; None if no problem has tests.
        workers: Programs that are judged at a time.
    """

    judged: Mapping[str, JudgedProblem]
    programs: ProgramJudge | None = None
    workers: int = 1
    _thread: ThreadPoolExecutor = field(default_factory=_one_thread)
    _programs_turn: asyncio.Semaphore = field(init=False)
    _answers_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._programs_turn = asyncio.Semaphore(self.workers)

    async def finish(
        self, result: JobResult, checkpoint: Callable[[], None] = lambda: None
    ) -> JobResult:
        """Return the result with the row of an evaluation, or the failure if it has no score.

        Only a finished answer is judged, never an unfinished thinking. ``checkpoint`` is called
        before a response is judged.
        """
        if isinstance(result.failure, Failure):
            failure = result.failure
            outcome = OUTCOMES.get(failure.reason)
            if outcome is None:
                return result
            if self._is_official(failure):
                outcome = "unjudged"  # like all responses to this problem, until it has verdicts
            row = self._row(failure, outcome, detail=failure.detail, reason=failure.reason)
            return replace(result, row=row, failure=None)
        assert isinstance(result.row, Trajectory)
        judge = self.judged[result.row.id].judge
        if isinstance(judge, ProgramTask):
            row = await self._grade_program(result.row, judge, checkpoint)
        else:
            async with self._answers_turn:
                checkpoint()
                loop = asyncio.get_running_loop()
                row = await loop.run_in_executor(self._thread, self.grade, result.row)
        return replace(result, row=row)

    def grade(self, row: Trajectory) -> Evaluation:
        """Judge a finished answer that is not a program. Blocks.

        Raises:
            TessyError: The judge does not start.
        """
        problem = self.judged[row.id]
        assert isinstance(problem.judge, Judge)
        try:
            verdict = problem.judge.decide(row.answer, problem.reference, row.problem)
        except UndecidedError as error:
            return self._row(row, "judge_error", detail=str(error))
        except TessyError:
            raise
        except Exception as error:  # of a judge or its library, on text of a model
            return self._judge_failed(row, error)
        if verdict is None:
            return self._row(
                row, "no_answer", detail="the judge finds no final answer in the response"
            )
        return self._row(row, "correct" if verdict.correct else "wrong", verdict)

    async def _grade_program(
        self, row: Trajectory, task: ProgramTask, checkpoint: Callable[[], None]
    ) -> Evaluation:
        code = task.extract(row.answer)
        if code is None:
            outcome: EvaluationOutcome = "unjudged" if task.tests is None else "no_answer"
            return self._row(row, outcome, detail="the response contains no program")
        if task.tests is None:
            return self._row(row, "unjudged", Verdict(False, code, ""))
        assert self.programs is not None
        async with self._programs_turn:
            checkpoint()
            try:
                found = await self.programs.judge(code, task.tests)
            except TessyError:
                raise
            except Exception as error:  # of the judge
                return self._judge_failed(row, error)
        return self._program_row(row, code, found)

    def _program_row(self, row: Trajectory, code: str, found: ProgramVerdict) -> Evaluation:
        verdict = Verdict(found.status == "accepted", code, found.status)
        if found.status == "judge_error":
            return self._row(row, "judge_error", verdict, detail=found.detail)
        # Other messages than the compiler's can contain hidden tests.
        detail = found.detail if found.status == "compile_error" else ""
        if found.test is not None and not verdict.correct:
            detail = f"test {found.test}"
        return self._row(row, "correct" if verdict.correct else "wrong", verdict, detail=detail)

    def _judge_failed(self, row: Trajectory, error: Exception) -> Evaluation:
        log.error("%s/%d: the judge failed", row.id, row.sample, exc_info=error)
        return self._row(row, "judge_error", detail=f"{type(error).__name__}: {error}")

    def _is_official(self, row: Failure) -> bool:
        judge = self.judged[row.id].judge
        return isinstance(judge, ProgramTask) and judge.tests is None

    def close(self) -> None:
        """Stop the judges."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self.programs is not None:
            self.programs.close()

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
            judge=problem.title("" if self.programs is None else self.programs.version),
            rule=verdict.rule if verdict else "",
            reason=reason,
            detail=detail[:_DETAIL_CHARS],
        )
