"""Tables of an experiment, for the page, the terminal and the docs (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tessy.core.formatting import NONE, interval, percent
from tessy.core.records import Evaluation
from tessy.lab.experiment.arms import ARMS, GROUPS, TEACHER_ONLY, TESSY, UNTRAINED
from tessy.lab.experiment.design import SCORED_ROWS, LabJob, Setting
from tessy.lab.experiment.mistakes import MEANINGS, MISTAKES, has_no_answer, mistake_of
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.problems import TARGET
from tessy.lab.experiment.recipes import RECIPES, Reauthored
from tessy.lab.experiment.results import LabResults
from tessy.lab.experiment.verdict import Ordering, of_each_student, orderings, relation
from tessy.lab.tasks import Task
from tessy.reports.compare.sections import Cell, Column
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import EVALUATIONS, iter_rows


class LabTable(NamedTuple):
    """A table with a row per arm, or per setting."""

    title: str
    about: str
    columns: tuple[Column, ...]
    rows: list[tuple[str, list[Cell]]]  # by name
    head: str = "arm"  # of the column of names


def tables(results: LabResults, paths: LabPaths) -> list[LabTable]:
    """Return every table that the results have data for, in reading order."""
    sizes = results.design.sizes()
    found = [claim(results, sizes)]
    found += [scores(results, task, sizes) for task in results.design.questions]
    varied = [setting for setting in results.design.settings() if setting not in sizes]
    if varied:
        others = [task for task in results.design.questions if task != TARGET]
        found += [claim(results, varied), *(scores(results, task, varied) for task in others)]
    found += [mistakes(results, paths, results.design.first_setting), data(results)]
    return [table for table in found if any(name != UNTRAINED for name, _ in table.rows)]


def claim(results: LabResults, settings: Sequence[Setting]) -> LabTable:
    """Return scores, differences and outcome of the claim in each setting, and by student."""
    by_student = {
        student: {one.setting: one for one in found}
        for student, found in of_each_student(results, settings).items()
    }
    ordering = f"{TEACHER_ONLY} < {UNTRAINED} < {TESSY}"
    columns = (
        *(Column(name, "") for name in (TEACHER_ONLY, UNTRAINED, TESSY)),
        Column(f"{TESSY} minus {TEACHER_ONLY} (points)", ""),
        Column(ordering, ""),
        *(Column(f"student {student}", "") for student in by_student),
    )
    rows = []
    for one in orderings(results, settings):
        cells = [
            estimate_cell(results, arm, one.setting, TARGET)
            for arm in (TEACHER_ONLY, UNTRAINED, TESSY)
        ]
        cells += [_difference_cell(results, TESSY, TEACHER_ONLY, one.setting), Cell(one.outcome)]
        cells += [_outcome_cell(found.get(one.setting)) for found in by_student.values()]
        rows.append((_name(results, one.setting), cells))
    about = f"Accuracy in {TARGET}. {_of_interval(results)}"
    if by_student:
        about += (
            f" The last columns are about {ordering} for each student alone, by intervals for "
            "other seeds and questions (with n = 1, for other questions); below, its three "
            "accuracies and the number n of trainings of each arm."
        )
    by_size = list(settings) == results.design.sizes()
    title = "The claim by number of problems" if by_size else f"Other schedules: {TARGET}"
    return LabTable(title, about, columns, rows, head="setting")


def _name(results: LabResults, setting: Setting) -> str:
    name = f"N = {setting.rows:,}"
    if setting in results.design.sizes():
        return name
    return f"{name}, {setting.epochs} epochs, lr {setting.lr:g}"


def _outcome_cell(one: Ordering | None) -> Cell:
    if one is None:
        return Cell(NONE)
    scores = " < ".join(f"{score:.2f}" for score in one.scores)
    if one.outcome != "held":
        scores = scores.replace(" <", ",")
    return Cell(one.outcome, f"{scores}, n = {one.trainings}")


def scores(results: LabResults, task: Task, settings: Sequence[Setting]) -> LabTable:
    """Return accuracies in one task, and on the trained task paired differences."""
    sizes = results.design.sizes()
    columns: list[Column] = []
    for setting in settings:
        columns.append(Column(_name(results, setting), ""))
        if task == TARGET:
            columns.append(Column("minus untrained (points)", ""))
    rows = [(UNTRAINED, _score_cells(results, UNTRAINED, task, settings))]
    for arm in results.design.arms():
        cells = _score_cells(results, arm, task, settings)
        if any(cell.text != NONE for cell in cells):
            rows.append((arm, cells))
    trained = "the trained task" if task == TARGET else "which is not trained"
    about = (
        f"Accuracy in {task}, {trained}, on the same {results.design.questions[task]:,} questions. "
        f"{_of_interval(results)}"
    )
    if task == TARGET:
        about += " Differences are paired by question."
    kind = "Accuracy in" if list(settings) == sizes else "Other schedules:"
    return LabTable(f"{kind} {task}", about, tuple(columns), rows)


def _of_interval(results: LabResults) -> str:
    if len(results.students) > 1:
        return (
            f"Below: 95 % interval of the mean for {results.population}, and the number n of "
            "trainings, as students × trainings of each (of untrained: × evaluations)."
        )
    return (
        f"Below: 95 % interval of the mean for {results.population} (of a single training: for "
        "other questions), and the number n of trainings (of untrained: of evaluations)."
    )


def _score_cells(
    results: LabResults, arm: str, task: Task, settings: Sequence[Setting]
) -> list[Cell]:
    cells = []
    for setting in settings:
        cells.append(estimate_cell(results, arm, setting, task))
        if task == TARGET:
            cells.append(_difference_cell(results, arm, UNTRAINED, setting))
    return cells


def estimate_cell(results: LabResults, arm: str, setting: Setting, task: Task) -> Cell:
    """Return an accuracy with its interval and the number of trainings.

    If only some students have trainings, there is no interval for other students.
    """
    estimate = results.score(arm, setting, task)
    if estimate is None:
        return Cell(NONE)
    counts, students = results.trainings(arm, setting), len(results.students)
    value = f"{estimate.value:.3f}"
    if len(counts) < students:
        return Cell(value, f"{len(counts)} of {students} students, n = {sum(counts)}")
    equal = students > 1 and len(set(counts)) == 1
    n = f"{students} × {counts[0]}" if equal else f"{sum(counts)}"
    ends = interval(estimate.low, estimate.high, lambda end: f"{end:.2f}")
    return Cell(value, f"{ends}, n = {n}")


def _difference_cell(results: LabResults, arm: str, base: str, setting: Setting) -> Cell:
    difference = None if arm == base else results.difference(arm, base, setting, TARGET)
    if difference is None or len(results.trainings(arm, setting)) < len(results.students):
        return Cell(NONE)
    ends = interval(difference.low, difference.high, _points, " to ")
    return Cell(_points(difference.value), f"{ends}, {relation(difference).removesuffix(' of')}")


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


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
        f"Each wrong answer in {TARGET} at N = {setting.rows:,} counts once, by its first mistake. "
        f"One training per arm{results.of_first_student} is shown, so small differences between "
        "arms may be chance. Shares are of all answers. An answer must contain a number."
    )
    occurring = [n for n in range(len(columns)) if any(cells[n].note for _, cells in rows)]
    return LabTable(
        "Why wrong answers are wrong",
        about,
        tuple(columns[n] for n in occurring),
        [(arm, [cells[n] for n in occurring]) for arm, cells in rows],
    )


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
    Column("style by teacher", "Share of the words of style that the teacher wrote."),
    Column("capability by student", "Share of the words of capability that the student wrote."),
    Column("NLL style", "Of a token of style."),
    Column("NLL capability", "Of a token of the steps."),
    Column("NLL untaught", "Of a result that the student was never taught."),
    Column("NLL answer", "Of a token of the answer."),
    Column("NLL all", "Of a token of the response."),
)


def data(results: LabResults) -> LabTable:
    """Return counts, authors and likelihood of the training data; arms with the same data once."""
    rows = []
    names = dict.fromkeys(ARMS[arm].data for arm in results.design.arms())
    for name in names:
        found = results.data(name)
        if found is None or not found["rows"]:
            continue
        failed = sum(found["failures"].values())
        cells = [
            Cell(f"{found['rows']:,}", f"{failed:,} failed" if failed else ""),
            Cell(percent(sum(found["correct"]) / found["rows"])),
        ]
        for kind in ("style", "capability"):
            leak = found["leak"]
            cells.append(Cell(NONE if leak is None else percent(leak[kind]["share"])))
        for kind in ("style", "other", "unknown", "answer", "all"):
            estimate = found["nll"].get(kind)
            cells.append(
                Cell(NONE)
                if estimate is None
                else Cell(f"{estimate['value']:.2f}", f"n = {estimate['n']:,.0f}")
            )
        rows.append((name, cells))
    about = (
        f"What the arms{results.of_first_student} are trained on. The negative log-likelihood "
        "(NLL, in nats per token) measures how unlikely a token is under the untrained student: 0 "
        "is certain, 4.6 is a probability of 1 %. It is measured in the first "
        f"{SCORED_ROWS} rows; n is the number of tokens."
    )
    if any(isinstance(RECIPES[name], Reauthored) for name, _ in rows):
        about += (
            " teacher-only-without-style uses teacher-only-by-class: the data of teacher-only, "
            "whose words have classes instead of authors."
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
