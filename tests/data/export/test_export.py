"""``tessy export`` on the command line: files, destinations and refused options."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest

from tessy.storage.atomic import new_file, new_folder
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_trajectories
from tests.support.exported_runs import (
    FORMATS,
    PLAIN,
    contents,
    export,
    lines,
    place,
    small_run,
)
from tests.support.rows import failure, fill, row
from tests.support.run_data import read_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return small_run(tmp_path / "run")


def test_chat_formats_match_the_trainers(run: Path):
    for to in ("messages", "sharegpt", "dialogs"):
        output = export(run, to)
        assert f"{place(run, to)}: 3 samples, 15 tokens, " in output
    first, _, system = lines(place(run, "messages"))
    answer = "<think>\nOkay. 2 + 2\n</think>\n\n4"
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": answer}]
    assert first == {"id": "a/0", "messages": turns}
    assert system["messages"] == [{"role": "system", "content": "Be brief."}, *turns]
    assert [r["id"] for r in lines(place(run, "messages"))] == ["a/0", "a/1", "b/0"]
    first, _, system = lines(place(run, "sharegpt"))
    conversation = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": answer}]
    assert first == {"id": "a/0", "conversations": conversation}
    assert system["conversations"] == [{"from": "system", "value": "Be brief."}, *conversation]
    assert lines(place(run, "dialogs"))[0] == {"id_ddm": "a/0", "dialogs": turns}


def test_hints_are_valid_settings_of_the_trainers(run: Path):
    entry = re.search(r"dataset_info\.json: (.*)", export(run, "sharegpt"))
    assert entry
    assert json.loads(f"{{{entry[1]}}}") == {
        "run": {"file_name": str(place(run, "sharegpt")), "formatting": "sharegpt"}
    }
    assert f'load_dataset("json", data_files="{place(run, "messages")}"' in export(run, "messages")
    assert f'load_dataset("{place(run, "hf")}", split="train")' in export(run, "hf")
    assert "OpenaiTokenizeFunctionConfig" in export(run, "dialogs")


def test_samples_that_llamafactory_skips_are_counted(tmp_path: Path):
    twice = row("b")
    problem = twice.messages[0]
    odd = twice.model_copy(update={"messages": (problem, *twice.messages)})
    fill(tmp_path / "run", row("a"), odd)
    assert "LLaMA-Factory will skip 1 sample, because" in export(tmp_path / "run", "sharegpt")


def test_parquet_contains_all_fields_with_types(run: Path):
    export(run, "parquet")
    table = pq.read_table(place(run, "parquet"))
    read = table.to_pylist()
    assert [r["problem"] for r in read] == ["{}", "{}", '{"n": 1, "tags": ["汉"]}']
    assert read[2]["student_ids"] == {"thinking": [5, 6, 7], "answer": [8]}
    assert read[0]["student_ids"] is None
    assert read[2]["scores"] == [7.5, None]
    for found, item in zip(read, iter_trajectories(run), strict=True):
        expected = item.model_dump(mode="json")
        for name in ("problem", "student_ids", "unscored"):
            del expected[name], found[name]
        expected["cost"]["seconds"] = []
        assert found == expected


@pytest.mark.parametrize("to", PLAIN)
def test_export_is_deterministic_and_replaces_an_earlier_export(run: Path, to: str):
    export(run, to)
    first = contents(place(run, to))
    fill(run, row("z"))
    export(run, to)
    assert contents(place(run, to)) != first
    rows = RunPaths(run).rows
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:3]))
    export(run, to)
    assert contents(place(run, to)) == first
    assert [p.name for p in (run / "export").iterdir()] == [place(run, to).name]


@pytest.mark.parametrize("to", PLAIN)
def test_an_invalid_row_keeps_the_earlier_export(run: Path, to: str):
    export(run, to)
    first = contents(place(run, to))
    rows = RunPaths(run).rows
    rows.write_bytes(rows.read_bytes() + b'{"id": "x", "sample": 0, "thinking": 1}\n')
    assert f"{rows}:4: " in export(run, to, code=2)
    assert contents(place(run, to)) == first
    assert [p.name for p in (run / "export").iterdir()] == [place(run, to).name]


@pytest.mark.parametrize("to", FORMATS)
def test_a_run_without_samples_is_refused(tmp_path: Path, to: str):
    fill(tmp_path / "run", failure("c"))
    assert "no finished samples" in export(tmp_path / "run", to, code=2)
    assert "there is no folder" in export(tmp_path / "none", to, code=2)
    assert not (tmp_path / "run" / "export").exists()


def test_unsafe_destinations_are_refused(run: Path, tmp_path: Path):
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("…")
    for to, out, message in (
        ("messages", run / "trajectories.jsonl", "the run's own files"),
        ("messages", run / "parts" / "x.jsonl", "the run's own files"),
        ("hf", run, "the run's own files"),
        ("hf", tmp_path, "the run's own files"),
        ("hf", other, "contains 'thesis.tex'"),
        ("hf", other / "thesis.tex", "is a file"),
        ("parquet", other, "is a folder"),
        ("tokens", other / "tok.jsonl", "name it tok.parquet"),
        ("parquet", other / "rows", "name it rows.parquet"),
        ("sharegpt", other / "rows.json", "name it rows.jsonl"),
        ("hf", other / "data.parquet", "this format is a folder, not a file; name it data"),
    ):
        assert message in export(run, to, "--out", str(out), code=2)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    assert (other / "thesis.tex").read_text() == "…"
    assert len(read_run(run).trajectories) == 3
    export(run, "messages", "--out", str(other / "deep" / "er.jsonl"))
    assert len(lines(other / "deep" / "er.jsonl")) == 3


def test_options_of_other_formats_are_refused(run: Path):
    assert "--loss applies only to --to axolotl, tokens" in export(
        run, "messages", "--loss", "student", code=2
    )
    assert "--tokenizer applies only to --to axolotl, tokens" in export(
        run, "hf", "--tokenizer", "x", code=2
    )
    assert "--licence applies only to --to hf" in export(run, "parquet", "--licence", "mit", code=2)
    output = export(run, "hf", "--licence", "mit\nx: y", code=2)
    assert "--licence: expected an SPDX identifier such as cc-by-4.0 or mit, got" in output


def test_an_interrupt_keeps_the_earlier_file_and_folder(tmp_path: Path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "README.md").write_text("old")

    def stop(at: Path) -> None:
        at.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_file(file) as path:
        stop(path)
    with pytest.raises(KeyboardInterrupt), new_folder(folder) as path:
        stop(path / "README.md")
    assert file.read_text() == "old"
    assert (folder / "README.md").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_row_with_invalid_unicode_is_named(tmp_path: Path):
    fill(tmp_path / "run", row("a"), row("b", answer="\ud800"))
    assert "sample 'b'/0 contains a lone surrogate" in export(tmp_path / "run", "parquet", code=2)
    export(tmp_path / "run", "messages")
    assert len(lines(place(tmp_path / "run", "messages"))) == 2
