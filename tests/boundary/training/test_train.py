"""Training a predictor: checkpoint, metrics and output."""

import json
import os
import re
import subprocess
import sys
from itertools import combinations

import pytest
import torch
from transformers import (
    AutoConfig,
)

from tessy.boundary.base import PredictionRequest
from tessy.boundary.classifier.conventions import read_conventions
from tessy.boundary.classifier.labels import IGNORED
from tessy.boundary.classifier.model import load_classifier
from tessy.boundary.classifier.predictor import TokenClassifierPredictor
from tessy.boundary.classifier.window import WindowRule
from tessy.boundary.training.base_model import load_weights, read_base
from tessy.boundary.training.dataset import by_part, digest_of, encode, part_of
from tessy.boundary.training.progress import EpochScores
from tessy.boundary.training.train import train_predictor
from tessy.config.predictors import TrainPredictorConfig
from tessy.core.edges import edges
from tessy.lab.bundled import student_path
from tests.support.power_cuts import Disk
from tests.support.predictor_training import (
    ROWS,
    annotation,
    changed,
    directory,
    quick_options,
)
from tests.support.tiny_bpe import codec


@pytest.fixture
def options(tmp_path):
    return quick_options(tmp_path)


# -- output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint from the bundled student, and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    options = TrainPredictorConfig(
        annotations=directory(folder / "annotations", ROWS),
        out=folder / "out",
        base=str(student_path()),
        epochs=2,
        learning_rate=2e-3,
        batch=16,
        validation_share=0.15,
        test_share=0.1,
        seed=3,
    )
    code = "import sys; from tessy.cli import main; sys.exit(main())"
    shown = [f"--{k.replace('_', '-')}={v}" for k, v in options.model_dump().items() if v]
    done = subprocess.run(
        [sys.executable, "-c", code, "train-predictor", *shown],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return options, done


def test_a_predictor_learns_and_records_its_scores(trained):
    options, _ = trained
    document = json.loads((options.out / "training.json").read_text())
    assert document["warning"] is None
    best = document["epochs"][document["chosen"] - 1]
    share = document["parts"]["validation"]["style_share"]
    assert 0.2 < share < 0.8
    assert best["accuracy"] > 0.8 > max(share, 1 - share)
    assert best["f1"] > 0.8
    assert best["accuracy"] == max(scores["accuracy"] for scores in document["epochs"])
    assert sum(part["segments"] for part in document["parts"].values()) == len(ROWS)
    card = (options.out / "README.md").read_text()
    assert f"token accuracy {best['accuracy']:.4f}" in card
    assert f"n = {best['tokens']:,} tokens" in card


def test_only_one_line_per_epoch_is_printed(trained):
    _, done = trained
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("Predictor", "train", "validation", "test", "Up", "epoch", "1", "2", "Kept")
    ]


def test_the_output_contains_only_the_checkpoint(trained):
    options, _ = trained
    assert {path.name for path in options.out.parent.iterdir()} == {"annotations", "out"}
    assert {path.name for path in options.out.iterdir()} - {"chat_template.jinja"} == {
        *("README.md", "config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "training.json"),
    }
    assert len({path.stat().st_mode for path in options.out.iterdir()}) == 1


def test_the_checkpoint_is_durable_when_it_is_in_place(options, tmp_path, monkeypatch):
    elsewhere = changed(options, out=tmp_path / "new" / "out")
    disk = Disk(tmp_path, monkeypatch)
    train_predictor(elsewhere)
    assert disk.early(elsewhere.out) == disk.lost(elsewhere.out) == []


def test_the_checkpoint_records_its_conventions(trained):
    options, _ = trained
    config = AutoConfig.from_pretrained(options.out)
    assert config.id2label == {0: "capability", 1: "style"}
    saved = read_conventions(config, "out")
    assert saved is not None
    assert saved.author == "student"
    assert (saved.window.limit, saved.window.keep, saved.shift) == (512, 200, 1)
    assert saved.split.model_dump() == {"seed": 3, "validation_share": 0.15, "test_share": 0.1}
    assert saved.annotations.digest == digest_of(sorted(ROWS, key=lambda row: row.key))
    assert (saved.annotations.segments, saved.annotations.annotator) == (len(ROWS), "lab:mark")
    assert saved.base == student_path().name  # no folder of this machine
    assert str(student_path()) not in (options.out / "config.json").read_text()


def test_the_checkpoint_reproduces_its_validation_accuracy(trained):
    """The predictor that synthesis loads has the accuracy in training.json."""
    options, _ = trained
    document = json.loads((options.out / "training.json").read_text())
    loaded = load_classifier(options.out, device="cpu")
    right = tokens = 0
    for row in by_part(ROWS, 3, 0.15, 0.1)["validation"]:
        example = encode(loaded.codec, row, loaded.rule)
        (scores,) = loaded.scorer.score([example.ids])
        for score, label in zip(scores, example.labels, strict=True):
            tokens += label != IGNORED
            right += label == (score >= 0.5)
    best = document["epochs"][document["chosen"] - 1]
    assert tokens == best["tokens"]
    assert right / tokens == pytest.approx(best["accuracy"], abs=1e-3)


async def test_the_checkpoint_finds_the_boundary(trained):
    loaded = TokenClassifierPredictor.load(trained[0].out, device="cpu")
    text = "Okay, let's see. 5 - 3 = 2. Then 2 * 2 = 4."
    request = PredictionRequest("a", text, (0, *edges(text)))
    prediction = await loaded.predict(request)
    await loaded.aclose()
    style = {
        unit.strip(): score.first >= 0.5
        for unit, score in zip(request.units, prediction.units, strict=True)
    }
    assert style["see."]
    assert not style["-"]


def test_a_seed_fixes_the_weights(trained, tmp_path):
    options, _ = trained
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in that training: one thread sums in one order
    train_predictor(changed(options, out=tmp_path / "again"))
    torch.set_num_threads(threads)
    first, again = (out / "model.safetensors" for out in (options.out, tmp_path / "again"))
    assert first.read_bytes() == again.read_bytes()
    weights, other_weights = (
        load_weights(read_base(config), config).state_dict()["score.weight"]
        for config in (changed(options, seed=seed) for seed in (1, 2))
    )
    assert not torch.equal(weights, other_weights)


def test_a_predictor_may_be_trained_further_and_short_inputs_make_short_windows(options):
    first = changed(options, max_tokens=40)
    options.out.mkdir()  # an empty folder is accepted
    assert train_predictor(first) == 0
    further = changed(first, base=str(options.out), out=options.out.with_name("more"))
    assert train_predictor(further) == 0
    assert load_classifier(further.out, device="cpu").rule == WindowRule(40, 15)
    document = json.loads((options.out / "training.json").read_text())
    assert document["parts"]["train"]["cut_segments"] > 0


def test_training_ends_when_validation_no_longer_rises(options):
    # Steps too small to change a weight, so no epoch is better than the first.
    train_predictor(changed(options, epochs=9, learning_rate=1e-30))
    document = json.loads((options.out / "training.json").read_text())
    assert (document["chosen"], len(document["epochs"])) == (1, 3)


def test_a_useless_predictor_causes_a_warning(options, capsys):
    # With so much weight on style, it predicts nothing else.
    config = changed(options, epochs=1, style_weight=1e6, learning_rate=0.1)
    assert train_predictor(config) == 0
    printed = capsys.readouterr().out
    document = json.loads((options.out / "training.json").read_text())
    (scores,) = document["epochs"]
    style = scores["style_tokens"] / scores["tokens"]
    assert scores["accuracy"] == pytest.approx(style, abs=1e-6)
    warning = document["warning"]
    assert f"accuracy is {style:.4f} and its style F1 {scores['f1']:.4f}" in warning
    assert f"has an accuracy of {max(style, 1 - style):.4f} (n = {scores['tokens']:,}" in warning
    assert printed.splitlines()[-1] == f"Warning: {warning}."
    assert f"**Warning**: {warning}.\n" in (options.out / "README.md").read_text()


@pytest.mark.parametrize(
    ("accuracy", "f1", "style", "usual"),
    [
        (0.7, 0.1, 30, "capability"),
        (0.6, 0.75, 60, "style"),
        (0.9, 0.0, 10, "capability"),
        (0.95, 0.0, 10, "capability"),
        (0.71, 0.1, 30, None),
        (0.61, 0.7, 60, None),
    ],
)
def test_a_predictor_no_better_than_a_constant_causes_a_warning(accuracy, f1, style, usual):
    scores = EpochScores(
        epoch=1,
        train_loss=0.7,
        accuracy=accuracy,
        precision=f1,
        recall=f1,
        f1=f1,
        tokens=100,
        style_tokens=style,
    )
    warning = scores.warning()
    assert (warning is None) == (usual is None)
    assert usual is None or (warning is not None and f"always predicting {usual} has" in warning)


def test_several_processes_train_one_predictor_and_the_first_prints(options, tmp_path):
    script = tmp_path / "tessy_here.py"
    script.write_text("import sys\nfrom tessy.cli import main\nsys.exit(main())\n")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    arguments = [
        f"--annotations={options.annotations}",
        f"--out={options.out}",
        f"--base={options.base}",
    ]
    done = subprocess.run(
        [sys.executable, *launch, "train-predictor", *arguments, "--epochs=2", "--test-share=0.2"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert words[words.index("epoch") :][:4] == ["epoch", "1", "2", "Kept"]
    assert done.stdout.count("Kept") == 1
    assert json.loads((options.out / "training.json").read_text())["processes"] == 2
    load_classifier(options.out, device="cpu")


# -- examples


def test_an_example_is_truncated_to_the_input_length():
    row = annotation(1)
    whole, short = (encode(codec(), row, WindowRule(n, n // 3)) for n in (512, 20))
    assert (short.ids, short.labels) == (whole.ids[:20], whole.labels[:20])
    assert (whole.cut, short.cut) == (0, len(whole.ids) - 20)
    assert whole.labels[-1] == IGNORED


def test_problems_are_split_whole():
    # The same problems from another source, with other ids.
    rows = [*ROWS, *(annotation(n, id=f"leetcode#{n}") for n in range(60))]
    parts = by_part(rows, 0, 0.2, 0.2)
    for part, held in parts.items():
        assert all(part_of(row.question, 0, 0.2, 0.2) == part for row in held)
    for first, second in combinations(parts.values(), 2):
        assert not {row.question for row in first} & {row.question for row in second}
    assert sum(map(len, parts.values())) == len(rows)


# -- Ctrl-C


def test_an_interrupted_training_leaves_nothing(options):
    # Many steps, so that the training is still running when the signal arrives.
    config = changed(options, annotations=directory(options.out.with_name("more"), ROWS[:120]))
    command = [
        *(sys.executable, "-u", "-c", "import sys; from tessy.cli import main; sys.exit(main())"),
        *("train-predictor", f"--annotations={config.annotations}", f"--out={config.out}"),
        *(f"--base={config.base}", "--batch=1", "--epochs=100", "--validation-share=0.2"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if re.match(r"\s+1 ", line):
                break
        process.send_signal(2)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "tessy: interrupted\n"
    assert {path.name for path in config.out.parent.iterdir()} == {"annotations", "base", "more"}
