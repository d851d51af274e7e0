"""The bundled predictors, and the chain that trains them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch

from tessy.boundary.annotation.directory import read_annotations
from tessy.boundary.classifier.labels import STYLE, encode_text, token_classes, token_scores
from tessy.boundary.classifier.model import load_classifier
from tessy.core.records import AUTHORS, Author, StyleSpan, problem_digest
from tessy.lab import train_predictors
from tessy.lab.bundled import predictor_path
from tessy.lab.marker import style_spans
from tessy.lab.styles import STUDENT, TEACHER
from tessy.lab.tasks import TASKS, make_problem, write_trace
from tessy.lab.write_problems import write_problems
from tessy.storage.problems import load_problems

STYLES = {"student": STUDENT, "teacher": TEACHER}
MOST_BYTES = 2_500_000
PROBLEM_COUNT = 24
authors = pytest.mark.parametrize("author", AUTHORS)


def read(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return found


@authors
def test_each_predictor_recognizes_the_phrases_of_its_author(author: Author):
    classifier = load_classifier(predictor_path(author))
    right = total = 0
    for number in range(60):
        rng = Random(f"fresh/{number}")
        text = write_trace(make_problem(TASKS[number % 3], rng), (STYLES[author],), rng).thinking
        tokens = encode_text(classifier.codec, text)
        spans = [StyleSpan(start=start, end=end) for start, end in style_spans(text)]
        (outputs,) = classifier.scorer.score([tokens.ids])
        for score, label in zip(token_scores(outputs), token_classes(tokens, spans), strict=True):
            if score is not None:
                right += (score >= 0.5) == (label == STYLE)
                total += 1
    # Whether a phrase follows a step is random, so the accuracy cannot be 1.
    assert right / total > 0.95


@authors
def test_each_predictor_has_a_card_and_training_json(author: Author):
    folder = predictor_path(author)
    training = read(folder / "training.json")
    assert training["author"] == author
    assert training["base"] == train_predictors.BASE
    assert training["annotations"]["annotator"] == train_predictors.RULE  # type: ignore[index]
    assert f"Boundary predictor of the {author}" in (folder / "README.md").read_text("utf-8")


def test_the_bundled_predictors_are_small():
    folders = [predictor_path(author) for author in AUTHORS]
    assert sum(file.stat().st_size for at in folders for file in at.iterdir()) < MOST_BYTES


def test_written_problems_can_be_loaded(tmp_path: Path):
    path = tmp_path / "q.jsonl"
    write_problems(path, 30, seed=1)
    problems = load_problems(path, fields={}, skip_bad_rows=False).problems
    assert {problem.extra["task"] for problem in problems} == set(TASKS)
    assert len({problem.id for problem in problems}) == 30
    first = path.read_bytes()
    write_problems(path, 30, seed=1)
    assert path.read_bytes() == first


def test_the_chain_trains_and_evaluates_both_predictors_reproducibly(tmp_path: Path):
    threads = torch.get_num_threads()
    try:
        assert train_predictors.make_predictors(tmp_path, 0, count=PROBLEM_COUNT) == 0
        again = tmp_path / "again"
        again.mkdir()
        (tmp_path / "teacher_annotations").rename(again / "teacher_annotations")
        assert train_predictors.train_one("teacher", again, 0) == 0
    finally:
        torch.set_num_threads(threads)
    for author in AUTHORS:
        load_classifier(tmp_path / f"{author}_predictor")
        assert (tmp_path / f"{author}_evaluation" / "evaluation.svg").exists()
    rows = read_annotations(again / "teacher_annotations")
    assert {row.author for row in rows} == {"teacher"}
    assert len({row.id for row in rows}) == PROBLEM_COUNT
    problems = load_problems(tmp_path / "questions.jsonl", fields={}, skip_bad_rows=False).problems
    digests = {problem.id: problem_digest(problem.messages) for problem in problems}
    for row in [*rows, *read_annotations(tmp_path / "student_annotations")]:
        assert row.question == digests[row.id]
    weights = [at / "teacher_predictor" / "model.safetensors" for at in (tmp_path, again)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert (
        weights[0].read_bytes()
        != (tmp_path / "student_predictor" / "model.safetensors").read_bytes()
    )
