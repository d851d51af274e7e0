"""Tokenized rows of runs of the bundled models, and every format loaded with ``datasets``."""

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
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("synthesized"))


def test_tokens_equal_the_sampled_tokens(synthesized: Path):
    output = export(synthesized, "tokens")
    assert "tokenized again" not in output
    table = pq.read_table(place(synthesized, "tokens"))
    rows = {item.key: item for item in iter_trajectories(synthesized)}
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
        # The last unit is encoded together with the closing marker.
        sampled = unpack_ids(item.student_ids.thinking)[:-3]
        assert kept[2 : 2 + len(sampled)] == sampled
        learned += len(kept)
    total = sum(map(len, table["input_ids"].to_pylist()))
    assert f"3 samples, {total:,} tokens ({learned:,} with labels), " in output
    metadata = json.loads(pq.read_metadata(place(synthesized, "tokens")).metadata[b"tessy"])
    assert metadata["weights"] == {"student": 1.0, "teacher": 1.0}
    assert metadata["learned_tokens"] == learned
    assert metadata["tokenizer_digest"] == codec.digest
    assert str(synthesized.parent) not in json.dumps(metadata)


def test_loss_weights_of_the_authors_add_up(synthesized: Path, tmp_path: Path):
    def loss_weights(loss: str) -> list[list[float]]:
        out = tmp_path / "x.parquet"
        export(synthesized, "tokens", "--loss", loss, "--out", str(out))
        return list(pq.read_table(out)["loss_weights"].to_pylist())

    both, student, teacher = map(loss_weights, ("all", "student", "teacher"))
    weighted = loss_weights("student=1,teacher=0.5")
    for full, own, others, half in zip(both, student, teacher, weighted, strict=True):
        assert [a + b for a, b in zip(own, others, strict=True)] == full
        assert [a + b / 2 for a, b in zip(own, others, strict=True)] == half
        assert sum(own)
        assert sum(others)


def test_token_export_is_deterministic(synthesized: Path):
    export(synthesized, "tokens")
    first = contents(place(synthesized, "tokens"))
    export(synthesized, "tokens")
    assert contents(place(synthesized, "tokens")) == first


@pytest.fixture
def copied(synthesized: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    shutil.copytree(synthesized, tmp_path / "copy")
    return tmp_path / "copy"


def change_config(run: Path, **data: Any) -> None:
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
    assert "3 samples without matching token ids" in export(copied, "tokens")
    codec = load_renderer(student_path()).codec
    for old, new in zip(before, pq.read_table(place(copied, "tokens")).to_pylist(), strict=True):
        assert decode(codec, old["input_ids"]) == decode(codec, new["input_ids"])


def test_another_tokenizer_is_refused_and_a_moved_one_is_accepted(copied: Path, tmp_path: Path):
    assert "differs from the run's in its vocabulary or chat template" in export(
        copied, "tokens", "--tokenizer", str(teacher_path()), code=2
    )
    change_config(copied, student__model=str(tmp_path / "gone"))
    assert "there is no folder" in export(copied, "tokens", code=2)
    export(copied, "tokens", "--tokenizer", str(student_path()))
    change_config(copied, student__model=None)
    assert "pass it with --tokenizer" in export(copied, "tokens", code=2)
    export(copied, "tokens", "--tokenizer", str(student_path()))
    change_config(copied, student__model=str(student_path()), student__trust_remote_code=True)
    assert "trust_remote_code" in export(copied, "tokens", code=2)
    change_config(copied, student__format=None)
    assert "has no digest of the tokenizer" in export(copied, "tokens", code=2)


def test_an_invalid_loss_is_refused(synthesized: Path):
    for loss in ("half", ""):
        output = export(synthesized, "tokens", "--loss", loss, code=2)
        assert f"non-negative weights such as student=1,teacher=0.5; got {loss!r}" in output


def test_a_loss_with_labels_only_for_markup_is_refused(copied: Path):
    rows = RunPaths(copied).rows
    original = [item.model_dump() for item in iter_trajectories(copied)]
    items = [
        item
        | {
            "spans": [{"start": 0, "end": len(item["thinking"]), "author": "teacher"}],
            "answer_by": "teacher",
        }
        for item in original
    ]
    rows.write_bytes(b"".join(map(jsonl.dump_line, items)))
    out = copied / "export" / "learned.parquet"
    output = export(copied, "tokens", "--loss", "student", "--out", str(out), code=2)
    assert f"all text in {copied} is by the teacher" in output
    assert not list(out.parent.glob("learned*"))
    export(copied, "tokens", "--loss", "teacher")
    rows.write_bytes(b"".join(map(jsonl.dump_line, [items[0], *original[1:]])))
    output = export(copied, "tokens", "--loss", "student")
    assert "1 sample without text by an author with a loss weight" in output


@pytest.mark.parametrize("author", ["student", "teacher"])
def test_token_export_of_runs_of_one_model(tmp_path: Path, author: Author):
    run = tmp_path / "run"
    finish(sample(author, questions(tmp_path, 3), run))
    output = export(run, "tokens", "--loss", author)
    assert ("tokenized again" in output) == (author == "teacher")  # whose ids are not stored
    codec = load_renderer(student_path() if author == "student" else teacher_path()).codec
    rows = {item.key: item for item in iter_trajectories(run)}
    for found in pq.read_table(place(run, "tokens")).to_pylist():
        kept = [label for label in found["labels"] if label != IGNORED]
        item = rows[found["id"], found["sample"]]
        text = decode(codec, kept)
        assert item.thinking in text
        assert item.answer in text
    other = "teacher" if author == "student" else "student"
    output = export(run, "tokens", "--loss", other, code=2)
    assert f"all text in {run} is by the {author}" in output
    export(run, "hf")
    _, text = card(place(run, "hf"))
    command = re.search(r"tessy sample --problems questions\.jsonl .*", text)
    assert command
    assert f"--author {author}" in command[0]
    assert f"--model {author}" in command[0]
    assert f"| {author} | `{author}` | 0.95 |" in text


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``datasets.load_dataset`` of the train split, with its own cache."""
    if os.environ.get("CI") != "true":  # in CI a missing library is a failure
        pytest.importorskip("datasets", reason="needs datasets (extra: dev)")
    datasets: Any = importlib.import_module("datasets")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def read(*place: str, **files: str) -> Any:
        return datasets.load_dataset(*place, **files, split="train", cache_dir=str(tmp_path / "c"))

    yield read
    datasets.enable_progress_bars()


def test_datasets_reads_every_format(synthesized: Path, load: Any):
    rows = list(iter_trajectories(synthesized))
    turns = [[turn.model_dump() for turn in item.messages] for item in rows]
    for to in FORMATS:
        export(synthesized, to)
    assert list(load("json", data_files=str(place(synthesized, "messages")))["messages"]) == turns
    assert list(load("json", data_files=str(place(synthesized, "dialogs")))["dialogs"]) == turns
    sharegpt = load("json", data_files=str(place(synthesized, "sharegpt")))["conversations"]
    assert [[turn["value"] for turn in talk] for talk in sharegpt] == [
        [turn["content"] for turn in talk] for talk in turns
    ]
    for data in (load("parquet", data_files=str(place(synthesized, "parquet"))),
                 load(str(place(synthesized, "hf")))):  # fmt: skip
        assert list(data["messages"]) == turns
        assert list(data["spans"]) == [[s.model_dump() for s in item.spans] for item in rows]
        kept = rows[0].student_ids
        assert kept
        assert data["student_ids"][0]["thinking"] == unpack_ids(kept.thinking)
    tokens = load("parquet", data_files=str(place(synthesized, "tokens")))
    assert {len(tokens[name][0]) for name in ("input_ids", "labels", "loss_weights")} == {
        len(tokens["input_ids"][0])
    }
    assert tokens.features["loss_weights"].feature.dtype == "float32"
