"""Directories of annotations: rows are read back, and other content is refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tessy.boundary.annotation.directory import (
    ANNOTATIONS,
    read_annotations,
)
from tessy.core.errors import InputError, RunError
from tessy.core.records import Annotation, FailedAnnotation, StyleSpan
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import iter_failed_rows, iter_rows
from tests.support.rows import fill, row
from tests.support.run_data import read_run


def annotation(name: str = "q", sample: int = 0, segment: int = 0, **more: Any) -> Annotation:
    columns = {
        "question": "0123456789abcdef",
        "author": "student",
        "start": 7,
        "text": "Okay, so 7",
        "attempts": 1,
    }
    columns |= {"style": (StyleSpan(start=0, end=8),), **more}
    return Annotation.model_validate({"id": name, "sample": sample, "segment": segment, **columns})


def failed(name: str = "q", sample: int = 0, segment: int = 0) -> FailedAnnotation:
    kept = annotation(name, sample, segment).model_dump(exclude={"style"})
    return FailedAnnotation(**kept, reason="not_json", detail="it is prose", reply="Sure!")


def write(directory: Path, *rows: Annotation | FailedAnnotation) -> None:
    async def append() -> None:
        with Run.open(directory, ANNOTATIONS, config={}, data_config={"seed": 1}) as held:
            for item in rows:
                if isinstance(item, Annotation):
                    await held.append(item)
                else:
                    await held.append_failure(item)

    asyncio.run(append())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "annotations"


def test_rows_come_back_sorted_by_key(directory):
    rows = [annotation("b", 0, 1), annotation("b", 0, 0), annotation("a", 10), annotation("a", 9)]
    write(directory, *rows)
    assert read_annotations(directory) == sorted(rows, key=lambda item: item.key)


def test_a_directory_is_resumed(directory):
    write(directory, annotation("a"), failed("b"), failed("c"))
    with Run.open(directory, ANNOTATIONS, config={}, data_config={"seed": 1}) as held:
        assert held.done == {("a", 0, 0)}
        assert {key: why.reason for key, why in held.failed.items()} == {
            ("b", 0, 0): "not_json",
            ("c", 0, 0): "not_json",
        }
        with pytest.raises(RunError, match="in use by another process"):
            Run.open(directory, ANNOTATIONS, config={}, data_config={"seed": 1})
    with pytest.raises(RunError, match="seed: 1, now 2"):
        Run.open(directory, ANNOTATIONS, config={}, data_config={"seed": 2})
    write(directory, annotation("b"))
    assert [item.key for item in iter_failed_rows(directory, ANNOTATIONS)] == [("c", 0, 0)]
    with pytest.raises(ValueError, match="already has a row"):
        write(directory, annotation("a"))


def test_a_torn_last_line_is_skipped_and_repaired(directory):
    write(directory, annotation("a"), annotation("b"))
    path = directory / "annotations.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert [item.id for item in read_annotations(directory)] == ["a"]
    write(directory, annotation("b"))
    assert [item.id for item in read_annotations(directory)] == ["a", "b"]


def test_keys_are_read_in_any_json_spelling(directory):
    write(directory, annotation('a"\\ü', 3, 21))
    path = directory / "annotations.jsonl"
    document = json.loads(path.read_text("utf-8"))
    other = dict(reversed(document.items())) | {"segment": 22}
    path.write_text(json.dumps(other) + "\n" + json.dumps(document) + "\n", "utf-8")
    assert [item.segment for item in read_annotations(directory)] == [21, 22]


def test_other_directories_are_refused(tmp_path):
    with pytest.raises(
        RunError, match=r"there is no folder .*nowhere; check the path: `tessy annotate` makes"
    ):
        read_annotations(tmp_path / "nowhere")
    fill(tmp_path / "run", row())
    with pytest.raises(RunError, match=r"holds trajectories, not annotations; `tessy annotate`"):
        read_annotations(tmp_path / "run")
    with pytest.raises(RunError, match="holds trajectories, not annotations"):
        write(tmp_path / "run", annotation())


def test_fresh_does_not_move_a_run_of_responses(tmp_path):
    fill(tmp_path / "run", row())
    with pytest.raises(RunError, match="holds trajectories, not annotations"):
        Run.open(tmp_path / "run", ANNOTATIONS, config={}, data_config={}, fresh=True)
    assert len(read_run(tmp_path / "run").trajectories) == 1


def test_annotations_are_not_read_as_a_run(directory):
    write(directory, annotation())
    with pytest.raises(RunError, match=r"holds annotations, not trajectories; `tessy synthesize`"):
        read_run(directory)


def test_another_schema_version_is_refused(directory):
    write(directory, annotation())
    path = directory / "config.json"
    document = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(document | {"schema": 99}), "utf-8")
    with pytest.raises(RunError, match="schema version 99, but this tessy reads 1"):
        read_annotations(directory)


def test_a_directory_without_annotations_is_refused(directory):
    write(directory, failed())
    with pytest.raises(RunError, match=r"has no annotated segments.*failures\.jsonl"):
        read_annotations(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "How?"}, r"jsonl:2: question: String should match pattern"),
        ({"author": "me"}, r"annotations\.jsonl:2: author: Input should be"),
        ({"style": [{"start": 3}]}, r"jsonl:2: style\.0\.end: Field required"),
        ({"style": [{"start": 0, "end": 99}]}, r"jsonl:2: row: .*style spans must be ascending"),
        ({"tokens": 3}, r"jsonl:2: tokens: Extra inputs are not permitted"),
        ({"segment": "x"}, r"jsonl:2: expected an id \(text\) and a sample .* and a segment"),
    ],
)
def test_a_row_of_another_shape_is_refused(directory, change, message):
    write(directory, annotation("a"))
    path = directory / "annotations.jsonl"
    document = json.loads(path.read_text("utf-8"))
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(document | {"id": "b"} | change) + "\n")
    with pytest.raises(InputError, match=message):
        read_annotations(directory)


@pytest.mark.parametrize("name", ["annotations.jsonl", "failures.jsonl"])
def test_rows_without_a_problem_digest_are_refused(directory, name):
    write(directory, annotation("a"), failed("b"), annotation("c", text='Okay, "question": 7'))
    path = directory / name
    document = json.loads(path.read_text("utf-8").splitlines()[-1])
    del document["question"]
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(document) + "\n")
    message = rf"{name}:\d: question: the row has no digest .* `tessy annotate` .* --fresh"
    with pytest.raises(InputError, match=message):
        write(directory, annotation("d"))
    with pytest.raises(InputError, match=message):
        [*iter_rows(directory, ANNOTATIONS), *iter_failed_rows(directory, ANNOTATIONS)]
