"""The result of an evaluation: scores.json, and its table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from tessy.core.errors import reason_labels
from tessy.core.formatting import counted, interval, percent, percentage, tally
from tessy.core.records import EvaluationOutcome
from tessy.core.statistics import Estimate
from tessy.evaluation.scores import EvaluationScore, JudgedSample, score
from tessy.runtime.terminal import facts_table, visible
from tessy.storage.run_reader import EVALUATIONS, iter_failed_rows, iter_rows, read_config

SCORES = "scores.json"
PLANNED = "planned_samples"  # in the options of config.json, per session
KNOWN_DATA = "known_data"  # in the same place


def planned_samples(document: Mapping[str, Any]) -> int | None:
    """Return the number of samples that the run with this config.json has when it is complete.

    None for a run of a version that did not record it.
    """
    last = [document, *document["resumed"]][-1]
    planned = last.get("config", {}).get(PLANNED)
    return planned if isinstance(planned, int) else None


def has_known_data(document: Mapping[str, Any]) -> bool:
    """Return whether the run with this config.json evaluates the known data of its benchmark.

    All sessions of a run have the same problems, so one session with this entry is enough. False
    for a run without the entry.
    """
    sessions = [document, *document["resumed"]]
    return any(session.get("config", {}).get(KNOWN_DATA) is True for session in sessions)


def are_samples_missing(found: EvaluationScore, failures: int, planned: int | None) -> bool:
    """Return whether fewer samples ended than planned; False if the plan is not recorded."""
    return planned is not None and found.outcomes.total() + failures < planned


def partial_note(found: EvaluationScore, failures: int, planned: int | None) -> str:
    """Return why a score is partial, as in ``partial: 37 of 80 samples``; empty if it is final.

    Samples are missing if fewer ended than planned. Verdicts are missing if responses wait for the
    official judge.
    """
    responses, waiting = found.outcomes.total(), found.outcomes["unjudged"]
    notes = []
    if planned is not None and are_samples_missing(found, failures, planned):
        notes.append(f"{responses + failures:,} of {planned:,} samples")
    if waiting:
        notes.append(f"verdicts on {responses - waiting:,} of {counted(responses, 'response')}")
    return f"partial: {', '.join(notes)}" if notes else ""


class Result(NamedTuple):
    """The score of a run, and what it was computed from."""

    benchmark: str
    digest: str  # of problems and references
    model: str
    judge: str
    score: EvaluationScore
    reasons: Counter[str]  # of responses that were truncated or have no answer
    failures: Counter[str]  # samples without a response, by reason
    rules: Mapping[EvaluationOutcome, Counter[str]]  # what decided, by outcome
    planned: int | None = None  # samples of the complete run; None: not recorded

    @property
    def waiting(self) -> int:
        """Number of samples that the official judge of the benchmark has to judge."""
        return self.score.outcomes["unjudged"]

    @property
    def ended(self) -> int:
        """Number of samples with a row, a response or a failure."""
        return self.score.outcomes.total() + self.failures.total()

    @property
    def partial(self) -> str:
        """Why the score is partial; empty if it is final."""
        return partial_note(self.score, self.failures.total(), self.planned)

    @property
    def unscored(self) -> int:
        """Number of samples without a score, other than those that wait for the official judge."""
        return self.failures.total() + self.score.outcomes["judge_error"]

    def to_json(self) -> dict[str, Any]:
        """Return the content of scores.json; scores are in [0, 1]."""
        found = self.score
        return {
            "benchmark": {"name": self.benchmark, "digest": self.digest},
            "model": self.model,
            "judge": self.judge,
            **score_json(found),
            "responses": found.n,
            "problems": found.problems,
            "samples": {"ended": self.ended, "planned": self.planned},
            "partial": bool(self.partial),
            "outcomes": dict(found.outcomes.most_common()),
            "rules": {o: dict(counts.most_common()) for o, counts in self.rules.items()},
            "reasons": dict(self.reasons.most_common()),
            "unscored": {
                "judge_error": found.outcomes["judge_error"],
                **dict(self.failures.most_common()),
            },
        }


def read_result(directory: Path) -> Result:
    """Compute the result of a run from its rows; RunError if it is no run of `tessy evaluate`."""
    document = read_config(directory, EVALUATIONS)
    data = document["data_config"]
    reasons: Counter[str] = Counter()
    rules: defaultdict[EvaluationOutcome, Counter[str]] = defaultdict(Counter)
    samples = []
    for row in iter_rows(directory, EVALUATIONS):
        samples.append(JudgedSample(row.id, row.outcome))
        if row.rule:
            rules[row.outcome][row.rule] += 1
        if row.outcome in ("truncated", "no_answer"):
            reasons[row.reason or "no_final_answer"] += 1
    failures = Counter[str](row.reason for row in iter_failed_rows(directory, EVALUATIONS))
    return Result(
        benchmark=str(data.get("benchmark")),
        digest=str(data.get("benchmark.digest")),
        model=str(data.get("model")),
        judge=str(data.get("judge")),
        score=score(samples),
        reasons=reasons,
        failures=failures,
        rules=rules,
        planned=planned_samples(document),
    )


def score_json(found: EvaluationScore) -> dict[str, Any]:
    """Return a score with its standard error, for JSON files; scores are in [0, 1]."""
    best = _estimate_json(found.pass_1)
    if best is not None:
        best["standard_error"] = found.standard_error
    more = {str(k): _estimate_json(estimate) for k, estimate in found.pass_k.items() if k > 1}
    return {"pass@1": best, "pass@k": more}


def _estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return ends | {"problems": estimate.questions}


def shown_score(estimate: Estimate | None) -> str:
    """Return ``52.3 % (95 %: 49.6–55.0)``."""
    if estimate is None:
        return "none"
    ends = interval(estimate.low, estimate.high, percentage)
    return percent(estimate.value) + (f" (95 %: {ends})" if ends else "")


def result_table(result: Result) -> Table:
    """Return the result as a table."""
    found = result.score
    scope = f"{counted(found.n, 'response')} to {counted(found.problems, 'problem')}"
    style = "bold"
    if result.partial:
        scope, style = f"{scope}; {result.partial}", "bold red"
    lines = [
        ("Benchmark", Text(visible(f"{result.benchmark} (problems {result.digest})"))),
        ("Model", Text(visible(result.model))),
        ("Judge", Text(result.judge)),
        ("pass@1", Text(f"{shown_score(found.pass_1)}, {scope}", style=style)),
        *((f"pass@{k}", Text(shown_score(one))) for k, one in found.pass_k.items() if k > 1),
        ("Outcomes", Text(tally(labels(dict(found.outcomes.most_common()))) or "none")),
    ]
    if result.waiting:
        text = f"{result.waiting:,} wait for the verdicts of the official judge"
        lines.append(("Not scored yet", Text(text, style="bold")))
    if result.reasons:
        lines.append(("Not answered", Text(tally(reason_labels(result.reasons)))))
    if result.unscored:
        why = Counter(reason_labels(result.failures))
        why["judge error"] += found.outcomes["judge_error"]
        text = f"{result.unscored:,} without a score: {tally(+why)}"
        lines.append(("Unscored", Text(text, style="red")))
    return facts_table("Evaluation", lines)


def labels(outcomes: Mapping[Any, int]) -> dict[str, int]:
    """Return counts of outcomes by their names for people."""
    return {str(outcome).replace("_", " "): count for outcome, count in outcomes.items()}
