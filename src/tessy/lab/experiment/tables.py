"""Tables of an experiment, for the page, the terminal and the docs (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tessy.core.formatting import NONE, interval, percent
from tessy.core.records import Evaluation
from tessy.core.statistics import CrossedEstimate
from tessy.lab.experiment.arms import ARMS, GROUPS, UNTRAINED
from tessy.lab.experiment.design import LabJob, Setting
from tessy.lab.experiment.mistakes import MEANINGS, MISTAKES, has_no_answer, mistake_of
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.problems import TARGET
from tessy.lab.experiment.results import LabResults
from tessy.lab.experiment.verdict import relation
from tessy.lab.tasks import Task
from tessy.reports.compare.sections import Cell, Column
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import EVALUATIONS, iter_rows


class LabTable(NamedTuple):
    """A table with a row per arm."""

    title: str
    about: str
    columns: tuple[Column, ...]
    rows: list[tuple[str, list[Cell]]]  # by arm


def tables(results: LabResults, paths: LabPaths) -> list[LabTable]:
    """Return every table that the results have data for, in reading order."""
    sizes = results.design.sizes()
    found = [scores(results, task, sizes) for task in results.design.questions]
    varied = [setting for setting in results.design.settings() if setting not in sizes]
    if varied:
        found += [scores(results, task, varied) for task in results.design.questions]
    found += [mistakes(results, paths, results.design.first_setting), data(results)]
    return [table for table in found if any(name != UNTRAINED for name, _ in table.rows)]


def scores(results: LabResults, task: Task, settings: Sequence[Setting]) -> LabTable:
    """Return accuracies in one task, and on the trained task paired differences."""
    sizes = results.design.sizes()
    columns: list[Column] = []
    for setting in settings:
        name = f"N = {setting.rows:,}"
        if setting not in sizes:
            name += f", {setting.epochs} epochs, lr {setting.lr:g}"
        columns.append(Column(name, ""))
        if task == TARGET:
            columns.append(Column("to untrained", ""))
    rows = [(UNTRAINED, _score_cells(results, UNTRAINED, task, settings))]
    for arm in results.design.arms():
        cells = _score_cells(results, arm, task, settings)
        if any(cell.text != NONE for cell in cells):
            rows.append((arm, cells))
    trained = "the trained task" if task == TARGET else "which is not trained"
    differences = (
        " Differences to the untrained student, in percentage points, are paired by question."
        if task == TARGET
        else ""
    )
    about = (
        f"Accuracy in {task}, {trained}, on the same {results.design.questions[task]:,} questions. "
        f"Below: 95 % interval of the mean, {_of_interval(results)}, and the number n of trainings "
        f"(of untrained: of evaluations).{differences}"
    )
    kind = "Accuracy in" if list(settings) == sizes else "Other schedules:"
    return LabTable(f"{kind} {task}", about, tuple(columns), rows)


def _of_interval(results: LabResults) -> str:
    if len(results.students) > 1:
        return f"for {results.population} (from the differences between students)"
    return f"for {results.population} (of a single training: for other questions)"


def _score_cells(
    results: LabResults, arm: str, task: Task, settings: Sequence[Setting]
) -> list[Cell]:
    cells = []
    for setting in settings:
        estimate = results.score(arm, setting, task)
        cells.append(estimate_cell(estimate, len(results.all_trained(arm, setting))))
        if task == TARGET:
            cells.append(_difference_cell(results, arm, setting, task))
    return cells


def estimate_cell(estimate: CrossedEstimate | None, trainings: int) -> Cell:
    """Return an accuracy with its interval and the number of trainings."""
    if estimate is None:
        return Cell(NONE)
    ends = interval(estimate.low, estimate.high, lambda value: f"{value:.2f}")
    return Cell(f"{estimate.value:.3f}", f"{ends}, n = {trainings}")


def _difference_cell(results: LabResults, arm: str, setting: Setting, task: Task) -> Cell:
    difference = None
    if arm != UNTRAINED:
        difference = results.difference(arm, UNTRAINED, setting, task)
    if difference is None:
        return Cell(NONE)
    ends = interval(difference.low, difference.high, lambda value: _points(value, 0), " to ")
    verdict = {"above": "above", "below": "below", "within noise of": "within noise"}
    return Cell(_points(difference.value, 1), f"{ends}, {verdict[relation(difference)]}")


def _points(value: float, digits: int) -> str:
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def mistakes(results: LabResults, paths: LabPaths, setting: Setting) -> LabTable:
    """Return the causes of wrong answers, in the kept evaluations of the first seed."""
    tasks = results.design.questions
    columns = (
        Column("wrong", "Share of all answers; below each share: the number of answers."),
        *(Column(name, MEANINGS[name]) for name in MISTAKES),
        *(
            Column(f"no number in {task}", f"Answers in {task} without a number, for any reason.")
            for task in tasks
        ),
    )
    student, seed = results.students[0], results.design.seeds[0]
    rows = []
    for arm in (UNTRAINED, *results.design.arms()):
        job = LabJob("train", student, arm, setting, seed)
        if arm == UNTRAINED:
            job = LabJob("untrained", student, seed=seed)
        run = paths.evaluations / job.id
        if job.id in results.by_id and RunPaths(run).config.is_file():
            rows.append((arm, _mistake_cells(list(iter_rows(run, EVALUATIONS)), tasks)))
    about = (
        f"Wrong answers in {TARGET} at N = {setting.rows:,}{results.of_first_student}, with the "
        "first seed, by the first mistake in their steps; shares are of all answers. An answer "
        "must contain a number."
    )
    return LabTable("Why wrong answers are wrong", about, columns, rows)


def _mistake_cells(rows: Sequence[Evaluation], tasks: Iterable[Task]) -> list[Cell]:
    by_task = {task: [row for row in rows if row.problem["task"] == task] for task in tasks}
    target = by_task[TARGET]
    counts = Counter(mistake_of(row) for row in target if row.outcome != "correct")
    wrong = _count_cell(counts.total(), len(target))
    cells = [wrong._replace(note=f"{counts.total():,} of {len(target):,}")]
    cells += [_count_cell(counts[name], len(target)) for name in MISTAKES]
    return cells + [
        _count_cell(sum(map(has_no_answer, each)), len(each)) for each in by_task.values()
    ]


def _count_cell(count: int, total: int) -> Cell:
    return Cell(percent(count / total), f"{count:,}" if count else "")


_DATA = (
    Column("rows", "Finished samples; below: failed ones."),
    Column("correct", "Share with a correct answer."),
    Column("style by teacher", "Share of style words that the teacher wrote."),
    Column("capability by student", "Share of other words that the student wrote."),
    Column("NLL style", "Nats per style token, of the untrained student."),
    Column("NLL capability", "Nats per token of the steps."),
    Column("NLL untaught", "Nats per result of a product that the student was never taught."),
    Column("NLL answer", "Nats per token of the answer."),
    Column("NLL all", "Nats per token of the response."),
)


def data(results: LabResults) -> LabTable:
    """Return counts, authors and likelihood of the training data; arms with the same data once."""
    rows = []
    names = dict.fromkeys(ARMS[arm].data for arm in results.design.arms())
    for name in names:
        found = results.data(next(arm for arm in ARMS if ARMS[arm].data == name))
        if found is None or not found["rows"]:
            continue
        failed = sum(found["failures"].values())
        cells = [
            Cell(f"{found['rows']:,}", f"{failed:,} failed" if failed else ""),
            Cell(percent(sum(found["correct"]) / found["rows"])),
            Cell(percent(found["leak"]["style"]["share"])),
            Cell(percent(found["leak"]["capability"]["share"])),
        ]
        for kind in ("style", "other", "unknown", "answer", "all"):
            estimate = found["nll"].get(kind)
            cells.append(
                Cell(NONE)
                if estimate is None
                else Cell(f"{estimate['value']:.2f}", f"n = {estimate['n']:,.0f}")
            )
        rows.append((name, cells))
    about = (
        f"The training data{results.of_first_student}. The negative log-likelihood (NLL) measures "
        "how unlikely a token is under the untrained student, in the first rows of each run."
    )
    return LabTable("The training data", about, _DATA, rows)


class DescribedArm(NamedTuple):
    """An arm as the page describes it."""

    name: str
    group: str
    about: str
    caveat: str
    skipped: str  # why it has no score; empty if it has one


def described(results: LabResults) -> list[DescribedArm]:
    """Return every arm of the design, with the reason where it has no score."""
    return [
        DescribedArm(
            name,
            GROUPS[ARMS[name].group],
            ARMS[name].about,
            ARMS[name].caveat,
            results.skipped(name) or "",
        )
        for name in results.design.arms()
    ]
