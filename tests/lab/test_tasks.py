"""Tasks, styles and traces: correct steps, labelled segments that begin at edges."""

import re
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.lab.bundled import demo_problems
from tessy.lab.styles import OTHERS, STUDENT, TEACHER, other_style
from tessy.lab.tasks import (
    TASKS,
    Task,
    TaskProblem,
    Trace,
    is_correct,
    make_problem,
    read_answer,
    solve,
    work,
    write_trace,
)

tasks = st.sampled_from(TASKS)
seeds = st.integers(0, 10**6)


def draw_trace(task: Task, seed: int, *, skilled: bool = True) -> Trace:
    rng = Random(seed)
    problem = make_problem(task, rng)
    return write_trace(problem, (STUDENT, TEACHER, other_style(rng)), rng, skilled=skilled)


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (TaskProblem("calc", "", (5, 3, 2, 7), ("-", "*", "+")), "1"),
        (TaskProblem("calc", "", (3, 7, 9), ("-", "*")), "4"),
        (TaskProblem("max", "", (3, 1, 4, 1, 5)), "5"),
        (TaskProblem("rev", "", (3, 1, 4)), "4, 1, 3"),
    ],
)
def test_solutions_of_given_problems(problem, answer):
    assert solve(problem) == answer


@given(seeds)
def test_calc_agrees_with_arithmetic(seed):
    problem = make_problem("calc", Random(seed))
    expression = re.search(r"\d(?: [-+*] \d)+", problem.text)
    assert expression is not None
    value, *rest = expression[0].split()
    total = int(value)
    for operator, digit in zip(rest[::2], rest[1::2], strict=True):
        total = {"+": total + int(digit), "-": total - int(digit), "*": total * int(digit)}[
            operator
        ]
    assert solve(problem) == str(total % 10)


@given(tasks, seeds)
def test_correct_steps_lead_to_the_correct_answer(task, seed):
    trace = draw_trace(task, seed)
    assert trace.result == solve(trace.problem)
    assert not any(segment.flawed for segment in trace.segments)


@given(seeds)
def test_unskilled_steps_are_wrong_for_unknown_facts_only(seed):
    rng = Random(seed)
    problem = make_problem("calc", rng)
    for step in work(problem, rng, skilled=False):
        left, operator, right, result = re.findall(r"[-+*]|\d", step.text)
        true = {
            "+": int(left) + int(right),
            "-": int(left) - int(right),
            "*": int(left) * int(right),
        }[operator] % 10
        unknown = operator == "*" and int(right) >= 6
        assert step.flawed == unknown
        assert unknown or int(result) == true


@given(seeds)
def test_each_step_of_a_reversal_shows_the_next_one(seed):
    problem = make_problem("rev", Random(seed))
    assert len(set(problem.digits)) == len(problem.digits)


@given(tasks, seeds)
def test_the_last_phrase_is_one_that_also_stands_between_steps(task, seed):
    last = draw_trace(task, seed).segments[-1]
    styles = (STUDENT, TEACHER, OTHERS)
    assert last.kind == "capability" or any(last.text.strip() in style.asides for style in styles)


def test_unskilled_steps_have_random_results():
    problem = TaskProblem("calc", "", (1, 7, 0), ("*", "+"))
    results = {work(problem, Random(seed), skilled=False)[-1].result for seed in range(200)}
    assert results == set("0123456789")


@given(tasks, seeds)
def test_segments_are_split_before_a_space_or_after_a_line_break(task, seed):
    trace = draw_trace(task, seed)
    for before, after in pairwise(trace.segments):
        assert before.text.endswith("\n") != after.text.startswith(" ")
        assert not before.text.endswith(" ")
    assert trace.thinking == trace.thinking.strip()


@given(tasks, seeds)
def test_style_segments_are_phrases_and_capability_segments_have_digits(task, seed):
    trace = draw_trace(task, seed)
    phrases = {*STUDENT.phrases, *TEACHER.phrases, *OTHERS.phrases}
    for segment in trace.segments:
        assert (segment.text.strip() in phrases) == (segment.kind == "style")
        assert bool(re.search(r"\d", segment.text)) == (segment.kind == "capability")
    kinds = [segment.kind for segment in trace.segments]
    assert sum(a != b for a, b in pairwise(kinds)) >= 1


def test_student_and_teacher_share_no_phrase():
    assert not {*STUDENT.phrases} & {*TEACHER.phrases}
    assert not ({*STUDENT.phrases} | {*TEACHER.phrases}) & {*OTHERS.phrases}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the answer is 4.", "4"),
        ("First 3, then 5, 1, 3.", "5, 1, 3"),
        ("Result: 12", "12"),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_the_last_answer_is_read(text, answer):
    assert read_answer(text) == answer
    assert not is_correct(text, "7")


@given(st.integers(1, 30), seeds)
def test_demo_problems_are_stable_and_distinct(count, seed):
    problems = demo_problems(count, seed)
    assert problems == demo_problems(count + 5, seed)[:count]
    assert problems[0].id == "calc-0001"
    assert len({problem.messages[0].content for problem in problems}) == count
    for problem in problems:
        assert problem.extra["task"] == "calc"
        assert re.fullmatch(r"\d", problem.extra["reference"])
