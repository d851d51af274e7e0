"""Pretokenised rows of real runs, and every format in the loaders of ``datasets``."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest

from tessy.core.records import Author, unpack_ids
from tessy.data.export.tokens import IGNORED
from tessy.lab.bundled import student_path, teacher_path
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_trajectories
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.lab.test_demo import finish
from tests.support.exported_runs import (
    FORMATS,
    card,
    contents,
    export,
    made_run,
    place,
)
from tests.synthesis.test_sample_command import questions, sample


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("made"))


def test_tokens_of_made_samples(made: Path):
    said = export(made, "tokens")
    assert "tokenized again" not in said
    table = pq.read_table(place(made, "tokens"))
    rows = {item.key: item for item in iter_trajectories(made)}
    codec = load_renderer(student_path()).codec
    learned = 0
    for found in table.to_pylist():
        item = rows[found["id"], found["sample"]]
        text = decode(codec, found["input_ids"])
        assert text.endswith(item.messages[-1].content + "<|im_end|>")
        kept = [i for i, label in zip(found["input_ids"], found["labels"], strict=True)
                if label != IGNORED]  # fmt: skip
        assert decode(codec, kept) == item.messages[-1].content + "<|im_end|>"
        assert [label for label in found["labels"] if label != IGNORED] == kept
        assert set(found["loss_weights"]) == {0.0, 1.0}
        assert item.student_ids is not None
        # But for the last unit, which is written together with the end marker.
        sampled = unpack_ids(item.student_ids.thinking)[:-3]
        assert kept[2 : 2 + len(sampled)] == sampled
        learned += len(kept)
    total = sum(map(len, table["input_ids"].to_pylist()))
    assert f"3 samples, {total:,} tokens, {learned:,} of them learned" in said
    noted = json.loads(pq.read_metadata(place(made, "tokens")).metadata[b"tessy"])
    assert noted["weights"] == {"student": 1.0, "teacher": 1.0}
    assert noted["learned_tokens"] == learned
    assert noted["tokenizer_digest"] == codec.digest
    assert str(made.parent) not in json.dumps(noted)


def test_losses_by_author_add_up(made: Path, tmp_path: Path):
    def learned(loss: str) -> list[list[float]]:
        out = tmp_path / "x.parquet"
        export(made, "tokens", "--loss", loss, "--out", str(out))
        return list(pq.read_table(out)["loss_weights"].to_pylist())

    both, student, teacher = learned("all"), learned("student"), learned("teacher")
    weighted = learned("student=1,teacher=0.5")
    for whole, own, others, half in zip(both, student, teacher, weighted, strict=True):
        assert [a + b for a, b in zip(own, others, strict=True)] == whole
        assert [a + b / 2 for a, b in zip(own, others, strict=True)] == half
        assert sum(own)
        assert sum(others)


def test_the_same_run_gives_the_same_tokens(made: Path):
    export(made, "tokens")
    first = contents(place(made, "tokens"))
    export(made, "tokens")
    assert contents(place(made, "tokens")) == first


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The run of the bundled models, to be changed."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def change(run: Path, **data: Any) -> None:
    path = RunPaths(run).config
    document = json.loads(path.read_bytes())
    for name, value in data.items():
        key = name.replace("__", ".")
        if value is None:
            document["data_config"].pop(key)
        else:
            document["data_config"][key] = value
    path.write_bytes(jsonl.dumps(document))


def test_rows_without_ids_are_tokenized_again_and_counted(copied: Path):
    rows = RunPaths(copied).rows
    items = [item.model_dump() | {"student_ids": None} for item in iter_trajectories(copied)]
    export(copied, "tokens")
    before = pq.read_table(place(copied, "tokens")).to_pylist()
    rows.write_bytes(b"".join(map(jsonl.dump_line, items)))
    assert "3 of the samples had no ids" in export(copied, "tokens")
    codec = load_renderer(student_path()).codec
    for old, new in zip(before, pq.read_table(place(copied, "tokens")).to_pylist(), strict=True):
        assert decode(codec, old["input_ids"]) == decode(codec, new["input_ids"])


def test_another_tokenizer_is_refused_and_a_moved_one_is_taken(copied: Path, tmp_path: Path):
    assert "is not the one the run was made with" in export(
        copied, "tokens", "--tokenizer", str(teacher_path()), code=2
    )
    change(copied, student__model=str(tmp_path / "gone"))
    assert "there is no folder" in export(copied, "tokens", code=2)
    export(copied, "tokens", "--tokenizer", str(student_path()))
    change(copied, student__model=None)
    assert "give it with --tokenizer" in export(copied, "tokens", code=2)
    export(copied, "tokens", "--tokenizer", str(student_path()))
    change(copied, student__model=str(student_path()), student__trust_remote_code=True)
    assert "trust_remote_code" in export(copied, "tokens", code=2)
    change(copied, student__format=None)
    assert "does not say which tokenizer" in export(copied, "tokens", code=2)


def test_a_loss_that_is_no_loss_is_refused(made: Path):
    assert "--loss 'half' is not understood" in export(made, "tokens", "--loss", "half", code=2)
    assert "--loss '' is not understood" in export(made, "tokens", "--loss", "", code=2)


def test_a_loss_that_learns_markup_alone_is_refused(copied: Path):
    rows = RunPaths(copied).rows
    whole = [item.model_dump() for item in iter_trajectories(copied)]
    items = [
        item
        | {
            "spans": [{"start": 0, "end": len(item["thinking"]), "author": "teacher"}],
            "answer_by": "teacher",
        }
        for item in whole
    ]
    rows.write_bytes(b"".join(map(jsonl.dump_line, items)))
    out = copied / "export" / "learned.parquet"
    said = export(copied, "tokens", "--loss", "student", "--out", str(out), code=2)
    assert f"all of the text in {copied} is by the teacher" in said
    assert not list(out.parent.glob("learned*"))
    export(copied, "tokens", "--loss", "teacher")
    rows.write_bytes(b"".join(map(jsonl.dump_line, [items[0], *whole[1:]])))
    said = export(copied, "tokens", "--loss", "student")
    assert "In 1 of the samples no word is by the author that is learned" in said


@pytest.mark.parametrize("author", ["student", "teacher"])
def test_runs_of_one_models_own_responses(tmp_path: Path, author: Author):
    run = tmp_path / "run"
    finish(sample(author, questions(tmp_path, 3), run))
    said = export(run, "tokens", "--loss", author)
    assert ("tokenized again" in said) == (author == "teacher")  # whose ids are never kept
    codec = load_renderer(student_path() if author == "student" else teacher_path()).codec
    rows = {item.key: item for item in iter_trajectories(run)}
    for found in pq.read_table(place(run, "tokens")).to_pylist():
        kept = [label for label in found["labels"] if label != IGNORED]
        item = rows[found["id"], found["sample"]]
        text = decode(codec, kept)
        assert item.thinking in text
        assert item.answer in text
    nobody = "teacher" if author == "student" else "student"
    said = export(run, "tokens", "--loss", nobody, code=2)
    assert f"all of the text in {run} is by the {author}" in said
    export(run, "hf")
    _, text = card(place(run, "hf"))
    command = re.search(r"tessy sample --problems questions\.jsonl .*", text)
    assert command
    assert f"--author {author}" in command[0]
    assert f"--model {author}" in command[0]
    assert f"| {author} | `{author}` | 0.95 |" in text


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``datasets.load_dataset`` of a train split, with a cache of its own."""
    if os.environ.get("CI") != "true":  # there it is installed, or the test fails
        pytest.importorskip("datasets", reason="needs datasets, of the dev extra")
    datasets: Any = importlib.import_module("datasets")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def read(*place: str, **files: str) -> Any:
        return datasets.load_dataset(*place, **files, split="train", cache_dir=str(tmp_path / "c"))

    yield read
    datasets.enable_progress_bars()


def test_datasets_reads_every_format(made: Path, load: Any):
    rows = list(iter_trajectories(made))
    turns = [[turn.model_dump() for turn in item.messages] for item in rows]
    for to in FORMATS:
        export(made, to)
    assert list(load("json", data_files=str(place(made, "messages")))["messages"]) == turns
    assert list(load("json", data_files=str(place(made, "dialogs")))["dialogs"]) == turns
    said = load("json", data_files=str(place(made, "sharegpt")))["conversations"]
    assert [[turn["value"] for turn in talk] for talk in said] == [
        [turn["content"] for turn in talk] for talk in turns
    ]
    for data in (load("parquet", data_files=str(place(made, "parquet"))),
                 load(str(place(made, "hf")))):  # fmt: skip
        assert list(data["messages"]) == turns
        assert list(data["spans"]) == [[s.model_dump() for s in item.spans] for item in rows]
        kept = rows[0].student_ids
        assert kept
        assert data["student_ids"][0]["thinking"] == unpack_ids(kept.thinking)
    tokens = load("parquet", data_files=str(place(made, "tokens")))
    assert {len(tokens[name][0]) for name in ("input_ids", "labels", "loss_weights")} == {
        len(tokens["input_ids"][0])
    }
    assert tokens.features["loss_weights"].feature.dtype == "float32"
