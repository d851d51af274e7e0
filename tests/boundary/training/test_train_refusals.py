"""Unusable input is refused before training; so are checkpoints with other conventions."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    Qwen3ForSequenceClassification,
    Qwen3ForTokenClassification,
)

from tessy.boundary.classifier.conventions import KEY
from tessy.boundary.classifier.model import load_classifier
from tessy.boundary.classifier.predictor import TokenClassifierPredictor
from tessy.boundary.classifier.window import WindowRule
from tessy.boundary.training.dataset import author_of, part_of
from tessy.boundary.training.train import train_predictor
from tessy.config.predictors import TrainPredictorConfig
from tessy.core.errors import ConfigError, InputError, ModelError
from tessy.core.records import Annotation, StyleSpan
from tests.support.predictor_training import (
    ROWS,
    SIZES,
    annotation,
    changed,
    directory,
    quick_options,
    qwen3,
    save,
)


@pytest.fixture
def options(tmp_path):
    return quick_options(tmp_path)


def refused(options: TrainPredictorConfig, message: str, kind: type[InputError]) -> None:
    with pytest.raises(kind, match=message):
        train_predictor(options)
    assert not options.out.exists() or not options.out.is_dir() or any(options.out.iterdir())
    assert not list(options.out.parent.glob("*.partial-*"))


# -- refused input


def test_wrong_annotations_are_refused(options, tmp_path):
    def arguments(segments: list[Annotation], **more: Any) -> TrainPredictorConfig:
        folder = tmp_path / "given"
        shutil.rmtree(folder, ignore_errors=True)
        return changed(
            options, annotations=directory(folder, segments, **more), base="no such base"
        )

    refused(arguments(ROWS, schema=2), "schema version 2", InputError)
    refused(arguments(ROWS, rows="trajectories"), "holds trajectories", InputError)
    refused(arguments([]), "no annotated segment", InputError)
    mixed = [*ROWS[:3], annotation(500, author="teacher")]
    refused(arguments(mixed), "3 of the student and 1 of the teacher", ConfigError)
    same = [annotation(1, sample=n) for n in range(9)]
    refused(arguments(same), r"no segments for (train|validation).*1 problem", ConfigError)


def test_annotations_of_one_class_are_refused(options, tmp_path):
    bare = [annotation(n, style=()) for n in range(60)]
    folder = directory(tmp_path / "bare", bare)
    refused(changed(options, annotations=folder), "have no style token", ConfigError)
    full = [
        row.model_copy(update={"style": (StyleSpan(start=0, end=len(row.text)),)}) for row in bare
    ]
    folder = directory(tmp_path / "full", full)
    refused(changed(options, annotations=folder), "have no capability token", ConfigError)
    short = [
        row if part_of(row.question, 0, 0.2, 0.1) == "train" else annotation(n, text="O", style=())
        for n, row in enumerate(ROWS[:60])
    ]
    folder = directory(tmp_path / "short", short)
    refused(changed(options, annotations=folder), "validation have no token", ConfigError)


def test_annotations_without_rows_are_refused():
    with pytest.raises(ConfigError, match="hold no segments"):
        author_of([])


def test_existing_output_is_not_overwritten(options):
    options.out.mkdir()
    (options.out / "thesis.txt").write_text("all of it")
    refused(options, "exists and is not an empty folder", ConfigError)
    refused(changed(options, out=options.out / "thesis.txt"), "exists and is not", ConfigError)
    assert (options.out / "thesis.txt").read_text() == "all of it"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: BertForMaskedLM(BertConfig(**SIZES)),
            "the base model .* is not causal",
        ),
        (lambda: qwen3(Qwen3ForTokenClassification, num_labels=3), "has 3 labels"),
        (
            lambda: qwen3(Qwen3ForTokenClassification, id2label={0: "style", 1: "rest"}),
            "label 1 must be style",
        ),
        (lambda: qwen3(Qwen3ForSequenceClassification), "classifier of another kind"),
        (lambda: qwen3(vocab_size=100), r"ids up to \d+, but the model.s vocabulary has only 100"),
        (lambda: qwen3(max_position_embeddings=64), "can hold 64 tokens, but max_tokens is 512"),
        (lambda: qwen3(is_causal=False), "is not causal"),
    ],
)
def test_an_unsuitable_base_is_refused(options, tmp_path, make, message):
    base = save(tmp_path / "wrong", make())
    refused(changed(options, base=base), message, ModelError)


def test_an_incomplete_base_is_refused(options, tmp_path):
    refused(changed(options, base=str(tmp_path / "nothing")), "there is no folder", ModelError)
    base = Path(options.base)
    weights = base / "model.safetensors"
    other = save(tmp_path / "other", qwen3(num_hidden_layers=2))
    shutil.copy(Path(other) / "config.json", base / "config.json")
    refused(options, "has no weights for", ModelError)
    weights.unlink()
    refused(options, "cannot load the base model", ModelError)
    (base / "tokenizer.json").unlink()
    refused(options, "no tokenizer.json", ModelError)
    (base / "config.json").unlink()
    refused(options, "cannot load the base model", ModelError)


def test_a_tokenizer_that_appends_a_token_is_refused(options):
    words = PreTrainedTokenizerFast.from_pretrained(options.base)
    end = ("</s>", words.eos_token_id)
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[end]
    )
    words.save_pretrained(options.base)
    refused(options, "appends the special token '</s>'", ModelError)
    trained = save(Path(options.base), qwen3(Qwen3ForTokenClassification), words)
    with pytest.raises(ModelError, match=r"boundary predictor .* appends the special token"):
        TokenClassifierPredictor.load(trained, device="cpu")


def test_a_diverged_training_leaves_nothing(options):
    refused(changed(options, style_weight=1e39), "smaller --learning-rate", ConfigError)
    assert not options.out.exists()


def test_processes_share_a_batch_evenly(options, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    refused(options, "cannot be shared evenly by 3 processes", ConfigError)
    monkeypatch.setenv("RANK", "1")
    assert train_predictor(options) == 2  # the first process reports the reason


def test_without_accelerate_the_message_names_the_extra(options):
    code = (
        "import sys; sys.modules['accelerate'] = None\n"
        "from tessy.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["train-predictor", f"--annotations={options.annotations}", f"--out={options.out}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--validation-share=0.3"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "training needs accelerate" in done.stderr
    assert 'pip install "tessy[train]"' in done.stderr


# -- conventions of checkpoints


def test_a_released_checkpoint_loads_as_it_is(tmp_path):
    """Its two labels have no names, and its config has no conventions."""
    save(tmp_path, qwen3(Qwen3ForTokenClassification, num_labels=2))
    written = json.loads((tmp_path / "config.json").read_text())
    written |= {
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
        "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    }
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert KEY not in written
    assert load_classifier(tmp_path, device="cpu").rule == WindowRule()


@pytest.mark.parametrize(
    ("key", "value"),
    [("shift", 0), ("schema", 2), ("labels", {"0": "style", "1": "capability"})],
)
def test_other_conventions_are_refused(options, key, value):
    train_predictor(options)
    path = options.out / "config.json"
    written = json.loads(path.read_text())
    saved = dict(written[KEY])
    written[KEY][key] = value
    path.write_text(json.dumps(written))
    with pytest.raises(ModelError, match=rf"{KEY}\.{key} = "):
        TokenClassifierPredictor.load(options.out, device="cpu")
    path.write_text(json.dumps(written | {KEY: saved | {"window": {"limit": 0, "keep": 0}}}))
    with pytest.raises(ModelError, match=rf"unusable config.json: {KEY}\.window\.limit"):
        TokenClassifierPredictor.load(options.out, device="cpu")
    path.write_text(json.dumps(written | {KEY: saved | {"window": {"limit": 24, "keep": 13}}}))
    with pytest.raises(ModelError, match=rf"{KEY}\.window: .*keep = 13 is more than half"):
        TokenClassifierPredictor.load(options.out, device="cpu")
    path.write_text(json.dumps(written | {KEY: saved | {"window": {"limit": 25, "keep": 13}}}))
    assert TokenClassifierPredictor.load(options.out, device="cpu")
    path.write_text(json.dumps(written | {KEY: "teacher"}))
    with pytest.raises(ModelError, match="follows other conventions"):
        TokenClassifierPredictor.load(options.out, device="cpu")
