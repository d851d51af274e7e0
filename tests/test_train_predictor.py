"""Training a predictor: what comes out, and what is refused before anything begins."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import (
    AutoConfig,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    Qwen3ForTokenClassification,
)

from tessy.boundary.base import View
from tessy.boundary.classifier import load_classifier
from tessy.boundary.conventions import KEY, read_conventions
from tessy.boundary.dataset import author_of, by_part, digest_of, encode
from tessy.boundary.labels import IGNORED
from tessy.boundary.predictor import TokenClassifierPredictor
from tessy.boundary.split import part_of
from tessy.boundary.train import train_predictor
from tessy.boundary.window import WindowRule
from tessy.config_predictors import TrainPredictorConfig
from tessy.edges import edges
from tessy.errors import ConfigError, InputError, ModelError
from tessy.lab.bundled import student_path
from tessy.lab.marker import style_spans
from tessy.lab.styles import STUDENT
from tessy.lab.tasks import make_question, write_trace
from tessy.records import Annotation, StyleSpan
from tests.tiny_bpe import codec, tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def annotation(number: int, **more: Any) -> Annotation:
    """What the bundled student may think about a question, marked by rule."""
    rng = Random(f"segment/{number}")
    text = write_trace(make_question("calc", rng), (STUDENT,), rng).thinking[:220]
    fields = {
        "id": f"q-{number}",
        "sample": 0,
        "segment": 0,
        "author": "student",
        "start": 0,
        "text": text,
        "attempts": 1,
        "style": tuple(StyleSpan(start=a, end=b) for a, b in style_spans(text)),
    }
    return Annotation(**fields | more)


ROWS = [annotation(number) for number in range(240)]


def directory(folder: Path, segments: list[Annotation], **more: Any) -> Path:
    folder.mkdir()
    config = {"schema": 1, "rows": "annotations", "data_config": {"rule": "lab:mark"}}
    (folder / "config.json").write_text(json.dumps(config | more))
    lines = "".join(row.model_dump_json() + "\n" for row in segments)
    (folder / "annotations.jsonl").write_text(lines)
    return folder


def save(folder: Path, model: Any, words: Any = None) -> str:
    model.save_pretrained(folder)
    (words or tokenizer()).save_pretrained(folder)
    return str(folder)


def qwen3(kind: Any = Qwen3ForCausalLM, **more: Any) -> Any:
    torch.manual_seed(5)
    return kind(Qwen3Config(**SIZES | more))


@pytest.fixture
def options(tmp_path):
    """Runs of a few seconds: a small base, few rows."""
    rows = directory(tmp_path / "annotations", ROWS[:60])
    base = save(tmp_path / "base", qwen3())
    return TrainPredictorConfig(
        annotations=rows,
        out=tmp_path / "out",
        base=base,
        epochs=1,
        learning_rate=3e-3,
        validation_share=0.2,
        test_share=0.1,
    )


def changed(options: TrainPredictorConfig, **more: Any) -> TrainPredictorConfig:
    return options.model_copy(update=more)


def refused(options: TrainPredictorConfig, message: str, kind: type[InputError]) -> None:
    with pytest.raises(kind, match=message):
        train_predictor(options)
    assert not options.out.exists() or not options.out.is_dir() or any(options.out.iterdir())
    assert not list(options.out.parent.glob(".*.partial"))


# -- what comes out


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
    )
    assert done.returncode == 0, done.stderr
    return options, done


def test_a_predictor_learns_and_says_how_well(trained):
    options, _ = trained
    document = json.loads((options.out / "training.json").read_text())
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


def test_it_prints_a_line_an_epoch_and_nothing_of_others(trained):
    _, done = trained
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("Predictor", "train", "validation", "test", "Up", "epoch", "1", "2", "Kept")
    ]


def test_nothing_is_left_beside_the_checkpoint(trained):
    options, _ = trained
    assert {path.name for path in options.out.parent.iterdir()} == {"annotations", "out"}
    assert {path.name for path in options.out.iterdir()} - {"chat_template.jinja"} == {
        *("README.md", "config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "training.json"),
    }
    assert len({path.stat().st_mode for path in options.out.iterdir()}) == 1


def test_the_checkpoint_says_its_conventions(trained):
    options, _ = trained
    config = AutoConfig.from_pretrained(options.out)
    assert config.id2label == {0: "capability", 1: "style"}
    said = read_conventions(config, "out")
    assert said is not None
    assert said.author == "student"
    assert (said.window.limit, said.window.keep, said.shift) == (512, 200, 1)
    assert said.split.model_dump() == {"seed": 3, "validation_share": 0.15, "test_share": 0.1}
    assert said.annotations.digest == digest_of(sorted(ROWS, key=lambda row: row.key))
    assert (said.annotations.segments, said.annotations.annotator) == (len(ROWS), "lab:mark")
    assert said.base == student_path().name  # no folder of this machine
    assert str(student_path()) not in (options.out / "config.json").read_text()


def test_the_checkpoint_judges_as_it_was_validated(trained):
    """The accuracy of training.json, by way of what synthesis loads."""
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
    view = View("a", text, (0, *edges(text)))
    judged = await loaded.judge(view)
    await loaded.aclose()
    style = {
        unit.strip(): score.first >= 0.5
        for unit, score in zip(view.units, judged.units, strict=True)
    }
    assert style["see."]
    assert not style["-"]


def test_a_seed_fixes_the_weights(options):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one thread adds in one order
    weights = []
    for seed, out in ((1, "a"), (1, "b"), (2, "c")):
        train_predictor(changed(options, seed=seed, out=options.out.with_name(out)))
        weights.append((options.out.with_name(out) / "model.safetensors").read_bytes())
    torch.set_num_threads(threads)
    assert weights[0] == weights[1] != weights[2]


def test_a_predictor_may_be_trained_further_and_short_inputs_make_short_windows(options):
    first = changed(options, max_tokens=40)
    options.out.mkdir()  # an empty folder is as good as none
    assert train_predictor(first) == 0
    further = changed(first, base=str(options.out), out=options.out.with_name("more"))
    assert train_predictor(further) == 0
    assert load_classifier(further.out, device="cpu").rule == WindowRule(40, 15)
    document = json.loads((options.out / "training.json").read_text())
    assert document["parts"]["train"]["cut_segments"] > 0


def test_training_ends_when_validation_no_longer_rises(options):
    # Steps too small to change a weight: every epoch is as good as the first.
    train_predictor(changed(options, epochs=9, learning_rate=1e-30))
    document = json.loads((options.out / "training.json").read_text())
    assert (document["chosen"], len(document["epochs"])) == (1, 3)


def test_several_processes_train_one_predictor_and_one_of_them_speaks(options, tmp_path):
    script = tmp_path / "tessy_here.py"
    script.write_text("import sys\nfrom tessy.cli import main\nsys.exit(main())\n")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    given = [
        f"--annotations={options.annotations}",
        f"--out={options.out}",
        f"--base={options.base}",
    ]
    done = subprocess.run(
        [sys.executable, *launch, "train-predictor", *given, "--epochs=2", "--test-share=0.2"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()][-4:] == [
        "epoch",
        "1",
        "2",
        "Kept",
    ]
    assert done.stdout.count("Kept") == 1
    assert json.loads((options.out / "training.json").read_text())["processes"] == 2
    load_classifier(options.out, device="cpu")


# -- examples


def test_an_example_is_cut_to_the_input():
    row = annotation(1)
    whole, short = (encode(codec(), row, WindowRule(n, n // 3)) for n in (512, 20))
    assert (short.ids, short.labels) == (whole.ids[:20], whole.labels[:20])
    assert (whole.cut, short.cut) == (0, len(whole.ids) - 20)
    assert whole.labels[-1] == IGNORED


def test_questions_stay_together():
    rows = [*ROWS, *(annotation(n, sample=1, id=f"q-{n}#2") for n in range(60))]
    parts = by_part(rows, 0, 0.2, 0.2)
    for part, held in parts.items():
        assert all(part_of(row.id, 0, 0.2, 0.2) == part for row in held)
    assert sum(map(len, parts.values())) == len(rows)


# -- what is refused


def test_wrong_annotations_are_refused(options, tmp_path):
    def given(segments: list[Annotation], **more: Any) -> TrainPredictorConfig:
        folder = tmp_path / "given"
        shutil.rmtree(folder, ignore_errors=True)
        return changed(
            options, annotations=directory(folder, segments, **more), base="no such base"
        )

    refused(given(ROWS, schema=2), "schema version 2", InputError)
    refused(given(ROWS, rows="trajectories"), "holds trajectories", InputError)
    refused(given([]), "no annotated segment", InputError)
    mixed = [*ROWS[:3], annotation(500, author="teacher")]
    refused(given(mixed), "3 of the student and 1 of the teacher", ConfigError)
    same = [annotation(1, sample=n) for n in range(9)]
    refused(given(same), r"no segments for (train|validation).*1 question", ConfigError)


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
        row if part_of(row.id, 0, 0.2, 0.1) == "train" else annotation(n, text="O", style=())
        for n, row in enumerate(ROWS[:60])
    ]
    folder = directory(tmp_path / "short", short)
    refused(changed(options, annotations=folder), "validation hold no token", ConfigError)


def test_nobodys_annotations_have_no_author():
    with pytest.raises(ConfigError, match="hold no segments"):
        author_of([])


def test_a_full_folder_and_a_file_are_not_written_to(options):
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
        (lambda: qwen3(vocab_size=100), r"ids up to \d+, the model knows those below 100"),
        (lambda: qwen3(max_position_embeddings=64), "can hold 64 tokens, and max_tokens is 512"),
        (lambda: qwen3(is_causal=False), "is not causal"),
    ],
)
def test_a_base_that_cannot_be_one_is_refused(options, tmp_path, make, message):
    base = save(tmp_path / "wrong", make())
    refused(changed(options, base=base), message, ModelError)


def test_a_base_is_named_that_is_not_whole(options, tmp_path):
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


def test_processes_share_a_batch_evenly(options, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    refused(options, "cannot be shared evenly by 3 processes", ConfigError)
    monkeypatch.setenv("RANK", "1")
    assert train_predictor(options) == 2  # the first process says why


def test_without_accelerate_the_message_names_the_extra(options):
    code = (
        "import sys; sys.modules['accelerate'] = None\n"
        "from tessy.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    given = ["train-predictor", f"--annotations={options.annotations}", f"--out={options.out}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *given, "--validation-share=0.3"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "training needs accelerate" in done.stderr
    assert 'pip install "tessy[train]"' in done.stderr


# -- Ctrl-C


def test_an_interrupted_training_leaves_nothing(options):
    given = changed(options, epochs=10_000, learning_rate=1e-4)
    command = [
        *(sys.executable, "-u", "-c", "import sys; from tessy.cli import main; sys.exit(main())"),
        *("train-predictor", f"--annotations={given.annotations}", f"--out={given.out}"),
        *(f"--base={given.base}", "--epochs=10000", "--validation-share=0.2"),
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
    assert {path.name for path in given.out.parent.iterdir()} == {"annotations", "base"}


# -- conventions of checkpoints


def test_a_released_checkpoint_loads_as_it_is(tmp_path):
    """Two labels without names, and none of our keys."""
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
    said = dict(written[KEY])
    written[KEY][key] = value
    path.write_text(json.dumps(written))
    with pytest.raises(ModelError, match=rf"{KEY}\.{key} = "):
        TokenClassifierPredictor.load(options.out, device="cpu")
    path.write_text(json.dumps(written | {KEY: said | {"window": {"limit": 0, "keep": 0}}}))
    with pytest.raises(ModelError, match=rf"unusable config.json: {KEY}\.window\.limit"):
        TokenClassifierPredictor.load(options.out, device="cpu")
    path.write_text(json.dumps(written | {KEY: "teacher"}))
    with pytest.raises(ModelError, match="follows other conventions"):
        TokenClassifierPredictor.load(options.out, device="cpu")
