from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen3Config, Qwen3ForCausalLM

from tessy.boundary.classifier.conventions import (
    AnnotationSource,
    Conventions,
    SplitSettings,
    WindowSettings,
)
from tessy.boundary.classifier.model import load_classifier
from tessy.boundary.evaluation.checkpoints import oracle_units
from tessy.boundary.evaluation.drafts import (
    EvaluationSample,
    draw_drafts,
    to_segment,
)
from tessy.boundary.evaluation.evaluate import LABELS
from tessy.core.edges import units
from tessy.core.errors import ConfigError, ModelError
from tests.support.annotations import TEXTS, annotation, questions, write
from tests.support.evaluate_command import evaluate
from tests.support.tiny_bpe import tokenizer
from tests.support.tiny_classifier import SIZES, build, qwen3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("annotations") / "a", questions(60))


def conventions(**split: Any) -> dict[str, Any]:
    return Conventions(
        author="student",
        window=WindowSettings(limit=512, keep=200),
        split=SplitSettings(**{"seed": 0, "validation_share": 0.05, "test_share": 0.05} | split),
        annotations=AnnotationSource(digest="d", segments=3, annotator=None),
        base="tiny",
        versions={},
    ).model_dump(by_alias=True)


def save(folder: Path, **split: Any) -> Path:
    model = qwen3(max_position_embeddings=512)
    model.config.tessy_predictor = conventions(**split)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoint"))


def test_a_checkpoint_is_evaluated_in_its_own_tokens(folder, checkpoint, tmp_path):
    name = str(checkpoint)
    report = evaluate(folder, tmp_path, name, "lexicon", f"{name}+lexicon", positions=200, limit=30)
    assert report["drafts"] == {"n": 200, "tokens": 20, "counted_in": f"tokens of {name}"}
    assert report["split"]["from"] == name
    assert not any("predictor, evaluated on" in note for note in report["notes"])
    by_name = {entry["name"]: entry for entry in report["predictors"]}
    assert by_name[name]["kind"] == "checkpoint"
    assert by_name["lexicon"]["tokens"] is None
    tokens = by_name[name]["tokens"]
    segments = {row.key: row for row in questions(60)}
    assert tokens["accuracy"]["n"] > 30 * min(len(row.text.split()) for row in segments.values())
    entries = {entry["name"]: entry for entry in report["cuts"]}
    assert set(entries) == {name, "lexicon", f"{name}+lexicon", LABELS}
    assert len(entries[name]["sweep"]) == 19
    assert entries[LABELS]["all"]["exact"]["value"] > entries["lexicon"]["all"]["exact"]["value"]
    assert (
        entries["lexicon"]["all"]["error_tokens"]["value"]
        > (entries["lexicon"]["all"]["error_words"]["value"])
    )


def test_both_windows_give_short_segments_the_same_metrics(folder, checkpoint, tmp_path):
    anchored, sliding = (
        evaluate(folder, tmp_path / w, str(checkpoint), positions=50, limit=9, window=w)
        for w in ("anchored", "sliding-200")
    )
    assert anchored["cuts"][0]["all"] == sliding["cuts"][0]["all"]


def test_oracle_units_equal_the_annotation_despite_white_space_tokens(checkpoint):
    rows = questions(3)
    classifier = load_classifier(checkpoint)
    segments = [to_segment(row, lambda unit: len(classifier.codec.encode(unit))) for row in rows]
    drafts = draw_drafts(segments, tokens=9, count=40, seed=0, cut="discard")
    sample = EvaluationSample(segments, drafts, "discard")
    ceiling = oracle_units(classifier, rows, sample)
    assert [len(scores) for scores in ceiling.drafts] == [d.last - d.first for d in drafts]
    spaces = 0
    for segment, scores in zip(segments, ceiling.segments, strict=True):
        words = zip(units(segment.text), segment.truth, scores, strict=True)
        for unit, truth, message in list(words)[1:]:
            assert message == truth
            spaces += classifier.codec.token_bytes(classifier.codec.encode(unit)[0]) == b" "
    assert spaces > 0


def test_part_test_is_refused_for_a_checkpoint_without_a_test_part(folder, tmp_path):
    name = str(save(tmp_path / "model", test_share=0.0))
    with pytest.raises(ConfigError, match=r"test_share 0.*--part validation"):
        evaluate(folder, tmp_path / "out", name, part="test")


def test_a_second_checkpoint_with_another_split_is_noted(folder, checkpoint, tmp_path):
    other = str(save(tmp_path / "model", seed=7))
    report = evaluate(folder, tmp_path, str(checkpoint), other, positions=20, limit=5)
    assert f"{other} was trained with another split" in " ".join(report["notes"])


def test_a_checkpoint_on_the_other_authors_text_is_noted(checkpoint, tmp_path):
    rows = [annotation(text, f"q{n}", author="teacher") for n, text in enumerate(TEXTS)]
    name = str(checkpoint)
    report = evaluate(write(tmp_path / "a", rows), tmp_path / "o", name, positions=20)
    message = f"{name} is the student's predictor, evaluated on the teacher's text"
    assert message in " ".join(report["notes"])
    assert message in report["printed"]


def test_unusable_checkpoints_are_refused_before_the_evaluation(folder, tmp_path):
    three = tmp_path / "three"
    qwen3(num_labels=3).save_pretrained(three)
    tokenizer().save_pretrained(three)
    with pytest.raises(ModelError, match="3 labels"):
        evaluate(folder, tmp_path / "out", "lexicon", str(three))
    with pytest.raises(ModelError, match="there is no folder"):
        evaluate(folder, tmp_path / "out", "lexicon", str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("missing", "extra"), [("matplotlib", "analysis"), ("torch", "torch")])
def test_a_missing_dependency_is_named_with_its_extra(
    missing, extra, folder, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf"needs {missing}.*tessy\[{extra}\]"):
        evaluate(folder, tmp_path / "out", str(checkpoint))
    assert not (tmp_path / "out").exists()


def test_the_entropy_rule_is_evaluated_with_the_others(folder, tmp_path):
    model = tmp_path / "model"
    build(Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=16)).save_pretrained(model)
    tokenizer().save_pretrained(model)
    report = evaluate(
        folder, tmp_path / "out", "sentence", entropy={"model": str(model)}, positions=50, limit=9
    )
    details = report["predictors"][1]
    assert (details["name"], details["kind"], details["words"]) == ("entropy", "marks", None)
    assert details["threshold_nats"] in [row["threshold"] for row in details["threshold_sweep"]]
    assert details["chosen_on"] == "validation"
    assert [entry["name"] for entry in report["cuts"]] == ["sentence", "entropy"]


def test_the_entropy_rule_without_a_model_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"--entropy\.model"):
        evaluate(folder, tmp_path / "out", "entropy")
