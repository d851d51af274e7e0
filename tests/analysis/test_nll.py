"""Likelihood of training data by class of token."""

from __future__ import annotations

import json

import pytest

from tessy.analysis.nll import ALL, ANSWER, OTHER, ClassSpan, NllCounts, token_classes
from tessy.lab.bundled import student_path
from tessy.tokenization.families import load_renderer
from tests.support.page_samples import sample

THINKING = "Okay, let's see. 5 - 3 = 2. Hmm, okay.\n2 * 7 = 4."


def test_a_token_has_the_class_of_its_first_visible_character():
    codec = load_renderer(str(student_path())).codec
    row = sample("a", (("student", THINKING),), answer="So the answer is 4.")
    at = THINKING.index("Hmm")
    spans = [ClassSpan(0, 16, "style"), ClassSpan(at, at + 10, "style")]
    spans.append(ClassSpan(len(THINKING) - 2, len(THINKING) - 1, "unknown"))
    ids = codec.encode(f"<think>\n{THINKING}\n</think>\n\n{row.answer}")
    classes = token_classes(row, codec, ids, spans)
    text: dict[str, str] = {}
    for name, piece in zip(classes, codec.pieces(ids), strict=True):
        text[name] = text.get(name, "") + piece.decode()
    assert text["style"] == "Okay, let's see. Hmm, okay.\n" or text["style"] == (
        "Okay, let's see. Hmm, okay."
    )
    assert text["unknown"].strip() == "4"
    assert text[ANSWER].strip() == row.answer
    assert "5 - 3 = 2." in text[OTHER]
    assert "2 * 7 =" in text[OTHER]


def test_means_are_over_tokens_and_clustered_by_problem():
    counts = NllCounts()
    for problem, name, nats in [("p", "style", 3.0), ("p", OTHER, 1.0), ("q", OTHER, 0.5)]:
        counts.add(problem, name, nats)
    means = counts.means()
    assert means["style"].value == 3.0
    assert means["style"].low is None  # a single problem
    assert means[OTHER].value == 0.75
    assert means[ALL].value == pytest.approx(1.5)
    assert (means[ALL].n, means[ALL].questions) == (3, 2)
    assert json.dumps(means[ALL]._asdict())
