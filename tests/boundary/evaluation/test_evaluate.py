from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest

from tessy.boundary.annotation.directory import read_annotations
from tessy.boundary.evaluation.drafts import (
    EvaluationSample,
    draw_drafts,
    to_segment,
)
from tessy.boundary.evaluation.figure import draw
from tessy.boundary.evaluation.predictions import IN_FLIGHT, predict_all
from tessy.boundary.training.dataset import digest_of, part_of
from tessy.core.errors import ConfigError, RunError
from tests.support.annotations import TEXTS, Undecided, annotation, questions, write
from tests.support.evaluate_command import evaluate, value, values

RULE = "tests.support.annotations:{}".format


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("annotations") / "a", questions(60))


# -- figures of predictors with known errors


def test_a_perfect_predictor_has_perfect_metrics(folder, tmp_path):
    report = evaluate(folder, tmp_path, RULE("perfect"), RULE("patient"), draft_tokens=2)
    for entry in report["cuts"]:
        for key in ("all", "style_to_capability", "capability_to_style"):
            got = values(entry[key])
            assert got == {
                "right": 1,
                "exact": 1,
                "early": 0,
                "late": 0,
                "error_words": 0,
                "error_tokens": 0,
                "left_whole": 1,
            }
        replayed = values(entry["replay"])
        assert replayed["style_by_teacher"] == replayed["capability_by_student"] == 0
        assert replayed["bounced"] == 0
        assert entry["sweep"] == []
    assert [values(entry["words"]) for entry in report["predictors"]] == [
        {"accuracy": 1, "precision": 1, "recall": 1, "f1": 1}
    ] * 2
    assert value(report["pairs"][0]["words"]) == 0
    assert report["drafts"]["counted_in"] == "words"


def test_one_word_late_is_off_by_one_word(folder, tmp_path):
    report = evaluate(folder, tmp_path, RULE("one_word_late"), draft_tokens=8)
    got = values(report["cuts"][0]["all"])
    assert got["exact"] == got["early"] == 0
    assert got["late"] == 1
    assert got["error_words"] == got["error_tokens"] == 1
    assert got["left_whole"] == 1
    # The first word after each change is the wrong model's.
    rows = questions(60)
    changes = {True: 0, False: 0}
    words = {True: 0, False: 0}
    for row in rows:
        truth = [unit[1] == 1 for unit in to_segment(row).truth]
        for before, now in pairwise(truth):
            words[now] += 1
            changes[now] += before != now
    replayed = values(report["cuts"][0]["replay"])
    assert replayed["style_by_teacher"] == pytest.approx(changes[True] / words[True])
    assert replayed["capability_by_student"] == pytest.approx(changes[False] / words[False])


def test_always_style_cuts_the_teacher_at_once_and_never_the_student(folder, tmp_path):
    report = evaluate(folder, tmp_path, RULE("always_style"), draft_tokens=2)
    entry = report["cuts"][0]
    assert value(entry["capability_to_style"]["early"]) == 1
    assert value(entry["capability_to_style"]["left_whole"]) == 0
    assert value(entry["style_to_capability"]["late"]) == 1
    replayed = values(entry["replay"])
    assert replayed["style_by_teacher"] == 0
    assert replayed["capability_by_student"] == 1
    words = values(report["predictors"][0]["words"])
    assert words["recall"] == 1
    assert words["precision"] == pytest.approx(report["data"]["style"]["value"])


def test_a_pair_that_never_agrees_bounces_every_time(folder, tmp_path):
    never, always = RULE("never_style"), RULE("always_style")
    report = evaluate(folder, tmp_path, f"{never}+{always}", f"{always}+{never}")
    against, along = (values(entry["replay"]) for entry in report["cuts"])
    assert against["bounced"] == 1  # neither may write any word
    assert against["hand_overs"] == 1
    assert along["hand_overs"] == 0  # both may write every word
    assert along["bounced"] is None
    pair = report["pairs"][0]
    assert value(pair["words"]) == 1
    assert value(pair["bounced_first_student"]) == 1
    assert pair["bounced_second_student"] is None


def test_the_best_threshold_is_named_and_not_applied(folder, tmp_path):
    report = evaluate(folder, tmp_path, RULE("hesitant"))
    entry = report["cuts"][0]
    assert value(entry["all"]["exact"]) == 0
    by_threshold = {row["threshold"]: row for row in entry["sweep"]}
    assert min(by_threshold) == 0.05
    assert max(by_threshold) == 0.95
    assert value(by_threshold[0.5]["exact"]) == value(entry["all"]["exact"])
    right = [threshold for threshold, row in by_threshold.items() if value(row["right"]) == 1]
    assert right == [0.65, 0.7, 0.75, 0.8, 0.85, 0.9]
    assert entry["best_threshold"] == 0.65
    assert value(by_threshold[0.95]["style_by_teacher"]) == 1
    assert "not applied" in report["notes"][0]


def test_the_sentence_rule_cuts_before_the_next_sentence(tmp_path):
    text = "so we see. Okay, let's see. Then 3 + 4 = 7.\nso wait, 5 and 6"
    report = evaluate(write(tmp_path / "a", [annotation(text)]), tmp_path / "o", "sentence")
    entry = report["cuts"][0]
    # "so we see.| Okay, let's see.| Then 3 + 4 = 7.|so wait, 5 and 6": by turns from the student.
    assert entry["student"] == entry["teacher"] == "sentence"
    assert report["predictors"][0]["words"] is None
    replayed = values(entry["replay"])
    assert replayed["hand_overs"] == pytest.approx(3 / (len(to_segment(annotation(text))) - 1))
    assert replayed["bounced"] == 0


# -- the evaluated data


def test_only_held_out_problems_are_evaluated(folder, tmp_path):
    report = evaluate(folder, tmp_path, RULE("perfect"), part="test")
    every = {row.question for row in questions(60)}
    held_out = {question for question in every if part_of(question, 0, 0.05, 0.05) == "test"}
    assert report["data"]["questions"] == len(held_out) > 0
    assert report["split"] == {
        "seed": 0,
        "validation_share": 0.05,
        "test_share": 0.05,
        "from": None,
    }


def test_the_report_names_the_author_and_the_annotations(folder, tmp_path):
    report = evaluate(folder, tmp_path / "out", "lexicon")
    digest = digest_of(read_annotations(folder))
    assert report["author"] == "student"
    assert report["annotations"] == {"digest": digest, "segments": 180}
    drawn = "".join(ET.fromstring((tmp_path / "out" / "evaluation.svg").read_bytes()).itertext())
    for message in (report["printed"], drawn):
        assert "The student's text" in message
        assert digest[:16] in message


def test_text_of_two_authors_is_refused(tmp_path):
    rows = [annotation(TEXTS[0], "a"), annotation(TEXTS[1], "b", author="teacher")]
    with pytest.raises(ConfigError, match="1 of the student and 1 of the teacher"):
        evaluate(write(tmp_path / "a", rows), tmp_path / "out", "lexicon")


def test_a_problem_with_two_ids_counts_once(tmp_path):
    rows = [annotation(TEXTS[0], "a"), annotation(TEXTS[1], "a", segment=1)]
    rows[1] = rows[1].model_copy(update={"id": "b"})
    report = evaluate(write(tmp_path / "a", rows), tmp_path / "out", "lexicon")
    assert report["data"]["questions"] == 1


def test_the_output_is_deterministic(folder, tmp_path):
    names = ("lexicon", "sentence", RULE("hesitant"))
    for out in ("one", "two"):
        evaluate(folder, tmp_path / out, *names, positions=50, limit=20)
    first, second = ((tmp_path / out / "evaluation.svg").read_bytes() for out in ("one", "two"))
    assert first == second
    first, second = (
        json.loads((tmp_path / out / "evaluation.json").read_text()) for out in ("one", "two")
    )
    assert first.pop("config").pop("out") != second.pop("config").pop("out")
    assert first == second
    assert first["data"]["segments"] == 20
    assert first["drafts"]["n"] == 50


def test_the_figure_shows_every_predictor(folder, tmp_path):
    report = evaluate(folder, tmp_path, "lexicon", "sentence", RULE("hesitant"))
    svg = (tmp_path / "evaluation.svg").read_bytes()
    drawn = "".join(ET.fromstring(svg).itertext())
    for word in ("lexicon", "sentence", "hesitant", "threshold of P(style)", "late or never"):
        assert word in drawn
    assert b"<dc:date>" not in svg
    assert draw(report) == svg


def test_the_tables_are_explained(folder, tmp_path):
    printed = evaluate(folder, tmp_path, "lexicon", RULE("one_word_late"))["printed"]
    for message in ("The cut", "The leak", "counts as late", "Side by side", "60 problems"):
        assert message in printed
    assert str(tmp_path / "evaluation.json") in printed


async def test_requests_are_concurrent_and_every_one_is_released():
    segments = [to_segment(annotation(TEXTS[i % 3], f"q{i}")) for i in range(100)]
    drafts = draw_drafts(segments, tokens=5, count=2000, seed=0, cut="discard")
    predictor = Undecided()
    details: list[tuple[int, int]] = []
    sample = EvaluationSample(segments, drafts, "discard")
    predicted = await predict_all(predictor, sample, lambda *seen: details.append(seen))
    total = len(drafts) + len(segments)
    assert predictor.most == min(IN_FLIGHT, total)
    assert len(predictor.released) == len(set(predictor.released)) == total
    assert details[-1] == (total, total)
    assert [len(scores) for scores in predicted.segments] == [len(s) for s in segments]


# -- bad input


@pytest.mark.parametrize(
    ("predictors", "options", "message"),
    [
        ((), {}, "nothing to evaluate"),
        (("lexicon+",), {}, "a pair is the student's predictor"),
        (("a+b+c",), {}, "a pair is the student's predictor"),
        (("sentence+lexicon",), {}, "cannot be paired"),
        (("tests.support.annotations:nothing",), {}, "has no 'nothing'"),
        (("lexicon",), {"part": "test", "limit": None, "few": True}, "none of the 1 problems"),
    ],
)
def test_bad_input_is_refused_before_the_evaluation(predictors, options, message, tmp_path):
    rows = questions(1) if options.pop("few", False) else questions(3)
    directory = write(tmp_path / "a", rows)
    with pytest.raises(ConfigError, match=message):
        evaluate(directory, tmp_path / "out", *predictors, **options)
    assert not (tmp_path / "out").exists()


def test_a_directory_without_annotations_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"config\.json"):
        evaluate(tmp_path, tmp_path / "out", "lexicon")


def test_a_failing_rule_ends_the_evaluation(folder, tmp_path):
    with pytest.raises(ConfigError, match="lost the thread"):
        evaluate(folder, tmp_path, RULE("broken"))


def test_an_output_path_that_is_a_file_is_refused(folder, tmp_path):
    (tmp_path / "out").write_text("x")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(ConfigError, match=r"out: .*/out is a file; give a directory"):
            evaluate(folder, out, "lexicon")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_output_path_is_refused(folder, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(ConfigError, match=r"out: .*/out cannot be written"):
            evaluate(folder, out, "lexicon")
