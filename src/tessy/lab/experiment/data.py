"""Training data of the arms, as run directories, by the commands of users where they exist."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path
from random import Random
from typing import Any, assert_never

from tessy.config.base import RoleConfig
from tessy.config.data import FilterConfig, MixConfig
from tessy.config.synthesis import SynthesizeConfig, TeacherConfig
from tessy.core.records import AUTHORS, Author, Message, Span, TokenCounts, Trajectory
from tessy.core.seeds import derive_seed
from tessy.data.derived_run import DerivedRun
from tessy.data.filter.command import filter_run
from tessy.data.mix import mix
from tessy.lab.bundled import ANSWER_TOKENS, THINKING_TOKENS, teacher_path
from tessy.lab.experiment.design import Design, LabJob
from tessy.lab.experiment.outcomes import check_status
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.problems import first_ids, read_problem
from tessy.lab.experiment.recipes import (
    BASE,
    RECIPES,
    RESTYLE,
    Correct,
    Mixed,
    Reauthored,
    Synthesized,
    Written,
    sources,
)
from tessy.lab.marker import style_spans
from tessy.lab.styles import STUDENT, TEACHER, Style
from tessy.lab.tasks import TraceSegment, solve, write_trace
from tessy.storage.run_reader import iter_trajectories
from tessy.synthesis.run import EXIT_NOTHING_FINISHED, run_samples

# Prompts state a date, so a fixed one gives the same data on every day.
DATE = datetime.date(2026, 1, 1)
_STEPS = 4  # resolution of a distance: it is a multiple of a quarter


def make_data(design: Design, paths: LabPaths, job: LabJob, work: Path) -> None:
    """Write the data of a job's recipe; ``work`` is a folder for rows of other recipes."""
    out = paths.data(job.student, job.name)
    recipe = RECIPES[job.name]
    by_name = _source_runs(design, paths, job, work)
    match recipe:
        case Synthesized():
            code = run_samples(synthesis(design, paths, job, by_name.get(BASE))).exit_code
            # Failed samples are a result.
            check_status(0 if code == EXIT_NOTHING_FINISHED else code, f"the synthesis in {out}")
        case Mixed(first, second):
            mix(MixConfig(first=by_name[first], second=by_name[second], out=out, fresh=True))
        case Correct(source):
            # Other rules are for natural text: short traces of digits are near duplicates.
            skipped = ("near_duplicate", "language", "truncated", "looping", "no_code")
            filter_run(FilterConfig(run=by_name[source], out=out, skip=skipped, fresh=True))
        case Written(distance, answer):
            options: dict[str, object] = {"distance": distance, "answer": answer}
            _derive(out, by_name[BASE], options, lambda row: written(row, distance, answer))
        case Reauthored(source):
            _derive(out, by_name[source], {"authors": "by class"}, reauthored)
        case _:
            assert_never(recipe)


def _source_runs(design: Design, paths: LabPaths, job: LabJob, work: Path) -> dict[str, Path]:
    """Return the runs that a job's recipe reads, with the rows of its problems only."""
    found = {}
    rows = design.rows(job.name)
    for name in sources(RECIPES[job.name]):
        found[name] = paths.data(job.student, name)
        if design.rows(name) > rows:
            run = found[name]
            found[name] = work / name
            first = set(first_ids(paths.problems, rows))
            with DerivedRun(found[name], by="lab", sources=[run], options={"rows": rows}) as few:
                for row in ordered(run):
                    if row.id in first:
                        few.add(row)
    return found


def synthesis(
    design: Design, paths: LabPaths, job: LabJob, traces: Path | None = None
) -> SynthesizeConfig:
    """Return the options of the `tessy synthesize` of a job's recipe."""
    recipe, student = RECIPES[job.name], job.student
    assert isinstance(recipe, Synthesized)
    predictors: dict[Author, str] = dict.fromkeys(AUTHORS, "lexicon")
    if recipe.trained:
        predictors = {
            author: str(paths.predictor(student, author, trained_here=design.new_predictors))
            for author in AUTHORS
        }
    options: dict[str, Any] = dict(recipe.options)
    if recipe.strategy == RESTYLE:
        options["traces"] = traces
    else:
        options |= {"problems": (paths.problems,), "limit": design.rows(job.name)}
    return SynthesizeConfig(
        out=paths.data(student, job.name),
        strategy=recipe.strategy,
        student=RoleConfig(model=str(paths.student(student)), predictor=predictors["student"]),
        teacher=TeacherConfig(model=str(teacher_path()), predictor=predictors["teacher"]),
        thinking_tokens=THINKING_TOKENS,
        answer_tokens=ANSWER_TOKENS,
        seed=student,
        date=DATE,
        **options,
    )


def _derive(
    out: Path,
    source: Path,
    options: dict[str, object],
    change: Callable[[Trajectory], Trajectory],
) -> None:
    with DerivedRun(out, by="lab", sources=[source], options=options, fresh=True) as run:
        for row in ordered(source):
            run.add(change(row))


def ordered(run: Path) -> list[Trajectory]:
    """Return the rows of a run in the order of their problems, not of their completion."""
    return sorted(iter_trajectories(run), key=lambda row: row.key)


def take(source: Path, out: Path, first: Sequence[str], count: int) -> int:
    """Write a run with ``count`` rows of the problems ``first``; return how many are different.

    Rows are repeated in order if there are fewer, so that every arm has as many training steps.
    """
    chosen = set(first)
    rows = [row for row in ordered(source) if row.id in chosen]
    with DerivedRun(out, by="lab", sources=[source], options={"rows": count}) as run:
        for number, row in enumerate(islice(cycle(rows), count if rows else 0)):
            sample = row.sample + number // len(rows)
            run.add(row if sample == row.sample else row.model_copy(update={"sample": sample}))
    return min(len(rows), count)


def written(row: Trajectory, distance: float, answer_distance: float | None = None) -> Trajectory:
    """Return a correct response to the problem of a row, as :class:`Written` describes it."""
    seed = derive_seed("lab", "written", row.id)
    problem = read_problem(row.messages[0].content, row.problem)
    trace = write_trace(problem, _styles(distance), Random(seed))
    of_answer = distance if answer_distance is None else answer_distance
    style = Random(seed + 1).choice(_styles(of_answer))
    answer = style.answer.format(solve(problem))
    spans: list[Span] = []
    position = 0
    for segment in trace.segments:
        end = position + len(segment.text)
        spans.append(Span(start=position, end=end, author=_author(segment)))
        position = end
    by: Author = "teacher" if style is TEACHER else "student"
    return with_text(row, trace.thinking, answer, tuple(spans)).model_copy(
        update={"answer_by": by, "strategy": f"written-{distance:g}"}
    )


def _styles(distance: float) -> list[Style]:
    teachers = round(_STEPS * distance)
    return [TEACHER] * teachers + [STUDENT] * (_STEPS - teachers)


def _author(segment: TraceSegment) -> Author:
    return "student" if segment.style == STUDENT.name else "teacher"


def with_text(row: Trajectory, thinking: str, answer: str, spans: tuple[Span, ...]) -> Trajectory:
    """Return a row with another response and without token ids, which are encoded later."""
    content = row.messages[-1].content
    content = content.replace(row.thinking, thinking, 1)
    content = content.removesuffix(row.answer) + answer
    turn = Message(role="assistant", content=content)
    values = {
        "thinking": thinking,
        "answer": answer,
        "spans": spans,
        "messages": (*row.messages[:-1], turn),
        "student_ids": None,
        "tokens": TokenCounts(),
    }
    return Trajectory.model_validate({**row.model_dump(), **values})


def reauthored(row: Trajectory) -> Trajectory:
    """Return a row whose style is attributed to the student, the rest to the teacher.

    The lab's rule finds the style. White space before a phrase belongs to the phrase, as it is part
    of its first token.
    """
    cuts = [0]
    for start, end in style_spans(row.thinking):
        before = len(row.thinking[:start].rstrip())
        cuts += [max(before, cuts[-1]), end]
    cuts.append(len(row.thinking))
    spans = tuple(
        Span(start=start, end=end, author=AUTHORS[1 - number % 2])
        for number, (start, end) in enumerate(pairwise(cuts))
        if start < end
    )
    return row.model_copy(update={"spans": spans})
