"""Comparison of evaluations: scores, paired differences from the first run, and validity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from tessy.config.data import CompareConfig
from tessy.core.errors import InputError, reason_label
from tessy.core.formatting import NONE, counted, percent
from tessy.evaluation.results import Result, read_result
from tessy.evaluation.scores import LEAST_DIFFERING, Difference, paired_difference
from tessy.reports import assets
from tessy.reports.compare.methods import short_names
from tessy.reports.compare.output import link_to, print_sections
from tessy.reports.compare.sections import Cell, Column, Section, percent_cell
from tessy.storage import jsonl
from tessy.storage.atomic import new_file
from tessy.storage.run_paths import RunPaths

_NOISE, _BETTER, _WORSE = "within noise", "better", "worse"


class EvaluatedRun(NamedTuple):
    """A run of ``tessy evaluate`` in a comparison."""

    name: str  # short
    directory: Path
    result: Result
    report: str | None  # link to the page of the run


def compare_evaluations(config: CompareConfig, console: Console) -> int:
    """Print the tables, write page and JSON, and return the exit code.

    Raises:
        InputError: The runs have no problem in common, or other texts of the same problem.
        StorageError: A file could not be written.
    """
    runs = [
        EvaluatedRun(name, path, read_result(path), link_to(RunPaths(path).report, config.out))
        for path, name in zip(config.runs, short_names(config.runs), strict=True)
    ]
    differences = [_difference(runs[0], run) for run in runs[1:]]
    overview, tables = describe_runs(runs), _sections(runs, differences)
    conclusions = [
        _conclusion(runs[0], run, found) for run, found in zip(runs[1:], differences, strict=True)
    ]
    page = assets.render(
        "tessy.reports.compare",
        "evaluations.html.jinja",
        runs=runs,
        overview=overview,
        conclusions=conclusions,
        tables=tables,
    )
    with new_file(config.out, "choose another --out") as path:
        path.write_bytes(page.encode("utf-8"))
    if config.json_file is not None:
        with new_file(config.json_file, "choose another --json-file") as path:
            path.write_bytes(jsonl.dumps(_to_json(runs, differences), indent=2) + b"\n")
    print_sections(console, [run.name for run in runs], tables, overview)
    for line in ("", *conclusions, f"Tables with explanations: {config.out}"):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return 0


def describe_runs(runs: Sequence[EvaluatedRun]) -> str:
    """Return sentences about the problems of the runs, and on what makes them incomparable."""
    problems = [run.result.score.correct.keys() for run in runs]
    every, shared = set().union(*problems), set(problems[0]).intersection(*problems)
    what = " and ".join(sorted({run.result.benchmark for run in runs}))
    over = f"the same {counted(len(every), 'problem')}"
    if shared != every:
        over = (
            f"{counted(len(every), 'problem')}, of which {len(shared):,} have a score in all runs: "
            "differences are over the problems that two runs share, scores over all of a run's own"
        )
    text = f"{counted(len(runs), 'evaluation')} on {what} over {over}."
    if len({run.result.judge for run in runs}) > 1:
        text += " Their judges differ, which alone can change the scores."
    if unscored := sum(run.result.unscored for run in runs):
        text += f" {counted(unscored, 'sample')} without a score: scores do not count them."
    return text


def _difference(first: EvaluatedRun, second: EvaluatedRun) -> Difference:
    before, after = first.result.prompts, second.result.prompts
    for problem in before.keys() & after.keys():
        if before[problem] != after[problem]:
            raise InputError(
                f"{first.directory} and {second.directory} have different texts of the problem "
                f"{problem!r}, so their scores cannot be compared; evaluate both with the same "
                "file and the same --instruction"
            )
    found = paired_difference(first.result.score.correct, second.result.score.correct)
    if found is None:
        raise InputError(
            f"{first.directory} and {second.directory} have no problem with a score in common; "
            "evaluate both on the same benchmark"
        )
    return found


def _conclusion(first: EvaluatedRun, second: EvaluatedRun, found: Difference) -> str:
    over = f"{_ends(found)} over {counted(found.problems, 'problem')}"
    if not found.within_noise:
        points = _points(abs(found.value)).lstrip("+")
        return f"{second.name} is {_verdict(found)} than {first.name} by {points} points ({over})."
    differing = found.better + found.worse
    if 0 < differing < LEAST_DIFFERING:
        over += f", of which only {differing} differ"
    return f"{second.name} against {first.name}: {_points(found.value)} points, {_NOISE} ({over})."


def _verdict(found: Difference) -> str:
    return _NOISE if found.within_noise else _BETTER if found.value > 0 else _WORSE


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _ends(found: Difference) -> str:
    return f"95 %: {_points(found.low)} to {_points(found.high)}"


_SCORE = (
    Column("pass@1", "Score of one response; below: 95 % interval."),
    Column(
        "pass@k",
        "Probability that one of k responses is correct (unbiased), for the largest k that all "
        "problems allow.",
    ),
    Column("responses", "Responses with a score, and the number of their problems."),
    Column("unscored", "Samples whose server or judge failed; scores do not count them."),
)


def _score_cells(run: EvaluatedRun) -> list[Cell]:
    score = run.result.score
    k = max(score.pass_k, default=None)
    largest = Cell(NONE) if k is None else percent_cell(score.pass_k[k], f"k = {k}")
    why = [f"{reason_label(reason)} {n:,}" for reason, n in run.result.failures.items()]
    if errors := score.outcomes["judge_error"]:
        why.append(f"judge error {errors:,}")
    return [
        percent_cell(score.pass_1),
        largest,
        Cell(f"{score.n:,}", counted(score.problems, "problem")),
        Cell(f"{run.result.unscored:,}", ", ".join(why), bad=bool(why)),
    ]


_DIFFERENCE = (
    Column(
        "difference",
        "pass@1 minus that of the first run, in points, over the problems of both; below: 95 % "
        "interval of the paired bootstrap over problems.",
    ),
    Column("problems", "Problems with a score in both runs."),
    Column("better", "Problems with a higher score than in the first run."),
    Column("worse", "Problems with a lower score."),
    Column(
        "conclusion",
        f"{_NOISE}: the interval includes 0, or fewer than {LEAST_DIFFERING} problems differ, so "
        "chance can explain the difference.",
    ),
)


def _difference_cells(found: Difference) -> list[Cell]:
    return [
        Cell(_points(found.value), f"{_points(found.low)} to {_points(found.high)}"),
        Cell(f"{found.problems:,}"),
        Cell(f"{found.better:,}"),
        Cell(f"{found.worse:,}"),
        Cell(_verdict(found)),
    ]


# Counts of responses by what is wrong with their form: name, meaning, outcomes and reasons.
_VALIDITY: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("No answer after the thinking.", ("empty_answer",)),
    "no final answer": ("An answer without a final one.", ("no_final_answer",)),
    "truncated": ("The token limit was reached, or the context was full.", ("budget",)),
    "looping": ("The text repeated itself.", ("repetition",)),
    "misplaced marker": (
        "A control token in the wrong place: the turn ended in the thinking, or the answer "
        "contains markup.",
        ("eos_in_thinking", "control_in_answer"),
    ),
}


def validity(result: Result) -> dict[str, int]:
    """Return the number of responses by what is wrong with their form."""
    reasons = result.score.reasons
    return {name: sum(reasons[r] for r in found) for name, (_, found) in _VALIDITY.items()}


def _validity_cells(run: EvaluatedRun) -> list[Cell]:
    n = run.result.score.n
    return [
        Cell(f"{count:,}", percent(count / n) if count and n else "")
        for count in validity(run.result).values()
    ]


def _sections(runs: Sequence[EvaluatedRun], differences: Sequence[Difference]) -> list[Section]:
    columns = tuple(Column(name, meaning) for name, (meaning, _) in _VALIDITY.items())
    first = [Cell(NONE)] * (len(_DIFFERENCE) - 1) + [Cell("baseline")]
    tables = [
        Section("Score", _SCORE, [_score_cells(run) for run in runs]),
        Section("Validity of responses", columns, [_validity_cells(run) for run in runs]),
    ]
    if differences:
        rows = [first, *map(_difference_cells, differences)]
        tables.insert(1, Section(f"Against {runs[0].name}", _DIFFERENCE, rows))
    return tables


def _to_json(runs: Sequence[EvaluatedRun], differences: Sequence[Difference]) -> dict[str, Any]:
    """Return the comparison as JSON; scores and differences are in [-1, 1]."""
    return {
        "runs": [
            {"name": run.name, "directory": str(run.directory)}
            | run.result.to_json()
            | {"validity": validity(run.result)}
            for run in runs
        ],
        "differences": [
            {"first": runs[0].name, "second": run.name}
            | found._asdict()
            | {"conclusion": _verdict(found)}
            for run, found in zip(runs[1:], differences, strict=True)
        ],
    }
