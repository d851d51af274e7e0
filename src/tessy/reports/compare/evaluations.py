"""Comparison of runs of `tessy evaluate`: scores, paired differences to the first run, validity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Any

from tessy.core.errors import ConfigError, reason_label
from tessy.core.formatting import NONE, counted, interval, percentage, points
from tessy.core.records import Key
from tessy.core.statistics import Case, Estimate, mean
from tessy.evaluation.results import planned_samples, score_json
from tessy.evaluation.scores import Difference, paired_difference
from tessy.reports.compare.evaluated_run import EvaluatedRun, EvaluatedSample
from tessy.reports.compare.methods import short_names
from tessy.reports.compare.paper_scores import paper_json, paper_sections
from tessy.reports.compare.sections import (
    Cell,
    Column,
    Section,
    mean_cell,
    percent_cell,
)

# Responses with markup in the wrong place.
_MARKUP = frozenset({"eos_in_thinking", "control_in_answer"})
_SAMPLING = tuple(f"sampling.{name}" for name in ("temperature", "top_p", "top_k", "min_p"))
_OPTIONS = frozenset({"thinking_tokens", "answer_tokens", "instruction", "reasoning_effort"})


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Raise ConfigError if runs have different problems or references under the same id."""
    first = runs[0]
    for run in runs[1:]:
        for key, digest in run.problems.items():
            if first.problems.get(key, digest) != digest:
                raise ConfigError(
                    f"{first.directory} and {run.directory} have different problems or references "
                    f"under the id {key!r}; compare evaluations of the same benchmark"
                )
        if not first.problems.keys() & run.problems.keys():
            raise ConfigError(
                f"{first.directory} and {run.directory} have no problem in common; compare "
                "evaluations of the same benchmark"
            )


def differing_options(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Return the names of options, other than the model's, that change scores and differ."""
    every = [run.document["data_config"] for run in runs]
    names = sorted(set().union(*every))
    compared = [name for name in names if name.startswith("sampling.") or name in _OPTIONS]
    return [name for name in compared if any(d.get(name) != every[0].get(name) for d in every)]


def describe_evaluations(runs: Sequence[EvaluatedRun]) -> str:
    """Return the number of runs and their problems, and options that differ, as sentences."""
    text = _describe_problems(runs)
    for run in runs:
        if run.partial:
            text += (
                f" {run.name} is not complete ({run.partial}), so its scores may change; "
                f"{_how_to_complete(run)}."
            )
    if unknown := [run for run in runs if run.has_unknown_data]:
        without = ", ".join(run.name for run in unknown)
        text += (
            f" The paper's scores on {unknown[0].option('benchmark')} do not apply to {without}, "
            "because its data are not known to be those of the benchmark."
        )
    if len({run.samples_per_problem for run in runs}) > 1:
        numbers = (f"{run.name} {run.samples_per_problem}" for run in runs)
        text += f" The numbers of samples per problem differ: {', '.join(numbers)}."
    names = differing_options(runs)
    if names:
        text += f" Other options also differ: {', '.join(names)}."
    recorded = runs[0].document["data_config"].keys()
    if shared := [name for name in _SAMPLING if name in recorded and name not in names]:
        text += f" Sampling: {_sampling(runs[0], shared)}."
    return text


def _how_to_complete(run: EvaluatedRun) -> str:
    """Return the commands that add what is missing."""
    commands = []
    if run.lacks_samples:
        commands.append("the same `tessy evaluate` command resumes it")
    if run.lacks_verdicts:
        commands.append("`tessy judge` reads the verdicts of its official judge")
    return ", and ".join(commands)


def _sampling(run: EvaluatedRun, names: Iterable[str]) -> str:
    """Return sampling parameters as text."""
    return ", ".join(f"{name.removeprefix('sampling.')} {run.option(name)}" for name in names)


def _describe_problems(runs: Sequence[EvaluatedRun]) -> str:
    sets = [run.problems.keys() for run in runs]
    every = set().union(*sets)
    shared = every.intersection(*sets)
    if len(runs) == 1:
        return f"1 evaluation over {counted(len(every), 'problem')}."
    text = f"{len(runs)} evaluations over "
    if shared == every:
        return f"{text}the same {counted(len(every), 'problem')}."
    return (
        f"{text}{counted(len(every), 'problem')}, of which {len(shared):,} "
        f"{'is' if len(shared) == 1 else 'are'} in all of them. A difference covers the problems "
        "of its two evaluations."
    )


_RUNS = (
    Column("model", "The evaluated model; of a path, the end that others do not share."),
    Column("benchmark", "The benchmark, or the file of problems."),
    Column("sampling", "Sampling parameters that differ between the evaluations."),
    Column("judge", "What decides whether an answer is correct, with its version."),
)
_SCORES = (
    Column(
        "pass@1",
        "Mean over problems of the share of correct samples; below: 95 % interval, clustered by "
        "problem. Truncated responses and those without an answer are not correct.",
    ),
    Column("standard error", "Standard error of pass@1 in percentage points."),
    Column("pass@k", "Share of problems solved by at least one of k samples (unbiased)."),
    Column("problems", "Problems with a scored sample."),
    Column(
        "samples",
        "Scored samples; below: samples without a score, by reason, and whether some are missing.",
    ),
)
_VALIDITY = (
    Column("no answer", "Responses that end without an answer."),
    Column("truncated", "Responses that reached the token limit or looped; never judged."),
    Column("looping", "Truncated responses that repeat themselves."),
    Column("misplaced markup", "Responses with markup of the chat format in the wrong place."),
    Column("thinking", "Mean thinking length in tokens; below: 95 % interval."),
    Column("answer", "Mean answer length in tokens; below: 95 % interval."),
)
_DIFFERENCES = (
    Column(
        "difference",
        "Change of pass@1 in percentage points, paired by problem; below: 95 % interval by "
        "bootstrap over problems.",
    ),
    Column("verdict", "Within noise: the interval contains 0, or fewer than 6 problems differ."),
    Column("problems", "Problems in both evaluations."),
    Column("better", "Problems with a larger share of correct samples than before."),
    Column("worse", "Problems with a smaller one."),
)


def evaluation_sections(
    runs: Sequence[EvaluatedRun], changes: Sequence[Difference | None]
) -> list[Section]:
    """Return every table, in reading order; ``changes`` are the :func:`differences`."""
    sections = [
        _runs_section(runs),
        Section("Scores", _SCORES, [_score_cells(run) for run in runs]),
        Section("Validity", _VALIDITY, [_validity_cells(run) for run in runs]),
    ]
    if changes:
        rows = [_difference_cells(difference) for difference in changes]
        title = f"Differences to {runs[0].name}"
        sections.insert(2, Section(title, _DIFFERENCES, [[Cell(NONE)] * 5, *rows]))
    found = {run.option("benchmark"): run.paper for run in runs if run.paper is not None}
    return sections + paper_sections(found)


def differences(runs: Sequence[EvaluatedRun]) -> list[Difference | None]:
    """Return the difference of each later run to the first one; the bootstraps take seconds."""
    return [paired_difference(runs[0].means, run.means) for run in runs[1:]]


def _runs_section(runs: Sequence[EvaluatedRun]) -> Section:
    different = differing_options(runs)
    sampling = [name for name in _SAMPLING if name in different]
    models = short_names([PurePath(run.option("model")) for run in runs])
    rows = []
    for run, model in zip(runs, models, strict=True):
        cells = [Cell(model), Cell(run.option("benchmark")), Cell(_sampling(run, sampling))]
        judge = Cell(run.judges[0] if run.judges else NONE, ", ".join(run.judges[1:]))
        rows.append([*(cells if sampling else cells[:2]), judge])
    columns = _RUNS if sampling else (*_RUNS[:2], _RUNS[-1])
    return Section("Runs", columns, rows)


def _score_cells(run: EvaluatedRun) -> list[Cell]:
    result = run.score
    error = result.standard_error
    rest = {k: estimate for k, estimate in result.pass_k.items() if k > 1}
    unscored = {reason_label(reason): n for reason, n in run.unjudged.items()}
    if errors := result.outcomes["judge_error"]:
        unscored["judge failed"] = errors
    if waiting := result.outcomes["unjudged"]:
        unscored["waiting for the official judge"] = waiting
    notes = [f"{name} {count:,}" for name, count in unscored.items()]
    if run.partial:
        notes.append(run.partial)
    return [
        percent_cell(result.pass_1),
        Cell(NONE if error is None else percentage(error, 1)),
        Cell(", ".join(f"@{k} {percentage(e.value)} %" for k, e in rest.items()) or NONE),
        Cell(f"{result.problems:,}"),
        Cell(f"{result.n:,}", ", ".join(notes), bad=bool(notes)),
    ]


def _validity_cells(run: EvaluatedRun) -> list[Cell]:
    samples = run.samples

    def count(chosen: Callable[[EvaluatedSample], bool]) -> Cell:
        return Cell(f"{sum(map(chosen, samples)):,}")

    return [
        count(lambda sample: sample.outcome == "no_answer"),
        count(lambda sample: sample.outcome == "truncated"),
        count(lambda sample: sample.reason == "repetition"),
        count(lambda sample: sample.reason in _MARKUP),
        mean_cell(_mean(samples, lambda sample: sample.thinking), 0),
        mean_cell(_mean(samples, lambda sample: sample.answer), 0),
    ]


def _mean(
    samples: Iterable[EvaluatedSample], number: Callable[[EvaluatedSample], int]
) -> Estimate | None:
    return mean(Case(sample.key[0], number(sample)) for sample in samples)


def _difference_cells(difference: Difference | None) -> list[Cell]:
    if difference is None:
        return [Cell(NONE), Cell("no scored problem in both"), *[Cell(NONE)] * 3]
    ends = interval(difference.low, difference.high, points, " to ")
    return [
        Cell(points(difference.value), ends),
        Cell(difference.verdict),
        *(Cell(f"{n:,}") for n in (difference.problems, difference.better, difference.worse)),
    ]


def example_keys(runs: Sequence[EvaluatedRun], count: int) -> list[Key]:
    """Return the keys of at most ``count`` samples, first those whose outcomes differ."""
    outcomes = [{sample.key: sample.outcome for sample in run.samples} for run in runs]
    keys = sorted(set().union(*outcomes))

    def agree(key: Key) -> bool:
        return len({each.get(key) for each in outcomes}) == 1

    return sorted(sorted(keys, key=lambda key: (agree(key), key))[:count])


def to_json(runs: Sequence[EvaluatedRun], changes: Sequence[Difference | None]) -> dict[str, Any]:
    """Return the figures of the tables; shares and differences are fractions."""
    return {
        "runs": [
            _run_json(run) | {"difference_to_first": change and _difference_json(change)}
            for run, change in zip(runs, [None, *changes], strict=True)
        ]
    }


def _run_json(run: EvaluatedRun) -> dict[str, Any]:
    result = run.score
    return {
        "run": str(run.directory),
        "model": run.document["data_config"].get("model"),
        "benchmark": run.document["data_config"].get("benchmark"),
        "judges": run.judges,
        **score_json(result),
        "problems": result.problems,
        "samples": result.n,
        "planned_samples": planned_samples(run.document),
        "partial": bool(run.partial),
        "outcomes": dict(result.outcomes),
        "reasons": dict(Counter(s.reason for s in run.samples if s.reason)),
        "failures": dict(run.unjudged),
        "paper": paper_json(run.paper),
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return difference._asdict() | {"verdict": difference.verdict}
