"""``tessy export`` as a user runs it: files, folders, refusals, and what loaders make of them."""

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
from huggingface_hub import DatasetCard

from tessy import jsonl
from tessy.derived import DerivedRun, source_rows
from tessy.export.card import Facts, size_category
from tessy.export.hub import write_shards
from tessy.export.origin import public
from tessy.export.place import new_file, new_folder
from tessy.export.tokens import IGNORED
from tessy.lab.bundled import student_path, teacher_path
from tessy.records import Author, Message, StudentIds, pack_ids, unpack_ids
from tessy.renderers import load_renderer
from tessy.runs import RunPaths, iter_trajectories, read_run
from tessy.tokens import decode
from tests.rows import failure, fill, row
from tests.test_demo import finish
from tests.test_sample_command import questions, sample

FORMATS = ("messages", "sharegpt", "dialogs", "parquet", "hf", "tokens")
PLAIN = FORMATS[:-1]  # need no tokenizer
SYSTEM = Message(role="system", content="Be brief.")


def export(run: Path, to: str, *more: str, code: int = 0) -> str:
    return finish(["tessy", "export", str(run), "--to", to, *more], code)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def place(run: Path, to: str) -> Path:
    suffix = {"hf": "", "parquet": ".parquet", "tokens": ".parquet"}.get(to, ".jsonl")
    return run / "export" / f"{to}{suffix}"


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three samples of two questions, one with a system message, and a failure."""
    ids = StudentIds(thinking=pack_ids([5, 6, 7]), answer=pack_ids([8]))
    plain = row("b", student_ids=ids, scores=(7.5, None), problem={"n": 1, "tags": ["汉"]})
    fill(
        tmp_path / "run",
        row("a", 0),
        row("a", 1, thinking="So: “5”.\n好", answer="</s> & co"),
        plain.model_copy(update={"messages": (SYSTEM, *plain.messages)}),
        failure("c", reason="repetition"),
    )
    return tmp_path / "run"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the bundled models."""
    out = tmp_path_factory.mktemp("made") / "demo"
    finish(["tessy", "demo", "--out", str(out), "--count", "3"])
    return out


# ------------------------------------------------------------------ files


def test_chat_rows_have_the_trainers_shapes(run: Path):
    for to in ("messages", "sharegpt", "dialogs"):
        said = export(run, to)
        assert f"{place(run, to)}: 3 samples, 15 tokens, " in said
    first, _, system = lines(place(run, "messages"))
    answer = "<think>\nOkay. 2 + 2\n</think>\n\n4"
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": answer}]
    assert first == {"id": "a/0", "messages": turns}
    assert system["messages"] == [{"role": "system", "content": "Be brief."}, *turns]
    assert [r["id"] for r in lines(place(run, "messages"))] == ["a/0", "a/1", "b/0"]
    first, _, system = lines(place(run, "sharegpt"))
    said_by = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": answer}]
    assert first == {"id": "a/0", "conversations": said_by}
    assert system["conversations"] == [{"from": "system", "value": "Be brief."}, *said_by]
    assert lines(place(run, "dialogs"))[0] == {"id_ddm": "a/0", "dialogs": turns}


def test_hints_can_be_pasted(run: Path):
    entry = re.search(r"dataset_info\.json: (.*)", export(run, "sharegpt"))
    assert entry
    assert json.loads(f"{{{entry[1]}}}") == {
        "run": {"file_name": str(place(run, "sharegpt")), "formatting": "sharegpt"}
    }
    assert f'load_dataset("json", data_files="{place(run, "messages")}"' in export(run, "messages")
    assert f'load_dataset("{place(run, "hf")}", split="train")' in export(run, "hf")
    assert "OpenaiTokenizeFunctionConfig" in export(run, "dialogs")


def test_samples_that_llamafactory_leaves_out_are_counted(tmp_path: Path):
    twice = row("b")
    question = twice.messages[0]
    odd = twice.model_copy(update={"messages": (question, *twice.messages)})
    fill(tmp_path / "run", row("a"), odd)
    assert "1 samples do not alternate" in export(tmp_path / "run", "sharegpt")


def test_parquet_has_every_field_typed(run: Path):
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
def test_the_same_run_gives_the_same_bytes_in_place_of_older_ones(run: Path, to: str):
    export(run, to)
    first = contents(place(run, to))
    fill(run, row("z"))
    export(run, to)
    assert contents(place(run, to)) != first
    rows = RunPaths(run).trajectories
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:3]))
    export(run, to)
    assert contents(place(run, to)) == first
    assert [p.name for p in (run / "export").iterdir()] == [place(run, to).name]


@pytest.mark.parametrize("to", PLAIN)
def test_a_row_that_cannot_be_read_leaves_the_older_export(run: Path, to: str):
    export(run, to)
    first = contents(place(run, to))
    rows = RunPaths(run).trajectories
    rows.write_bytes(rows.read_bytes() + b'{"id": "x", "sample": 0, "thinking": 1}\n')
    assert f"{rows}:4: " in export(run, to, code=2)
    assert contents(place(run, to)) == first
    assert [p.name for p in (run / "export").iterdir()] == [place(run, to).name]


@pytest.mark.parametrize("to", FORMATS)
def test_a_run_without_samples_is_refused(tmp_path: Path, to: str):
    fill(tmp_path / "run", failure("c"))
    assert "no finished samples" in export(tmp_path / "run", to, code=2)
    assert "is no run" in export(tmp_path / "none", to, code=2)
    assert not (tmp_path / "run" / "export").exists()


def test_a_place_that_would_cost_something_is_refused(run: Path, tmp_path: Path):
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("…")
    for to, out, message in (
        ("messages", run / "trajectories.jsonl", "the run's own files"),
        ("messages", run / "parts" / "x.jsonl", "the run's own files"),
        ("hf", run, "the run's own files"),
        ("hf", tmp_path, "the run's own files"),
        ("hf", other, "holds 'thesis.tex'"),
        ("hf", other / "thesis.tex", "is a file"),
        ("parquet", other, "is a folder"),
    ):
        assert message in export(run, to, "--out", str(out), code=2)
    assert (other / "thesis.tex").read_text() == "…"
    assert len(read_run(run).trajectories) == 3
    export(run, "messages", "--out", str(other / "deep" / "er.jsonl"))
    assert len(lines(other / "deep" / "er.jsonl")) == 3


def test_options_that_would_have_no_effect_are_refused(run: Path):
    assert "--loss is for --to tokens" in export(run, "messages", "--loss", "student", code=2)
    assert "--tokenizer is for --to tokens" in export(run, "hf", "--tokenizer", "x", code=2)
    assert "--licence is for --to hf" in export(run, "parquet", "--licence", "mit", code=2)
    assert "licence" in export(run, "hf", "--licence", "mit\nx: y", code=2)


def test_a_stop_leaves_the_older_file_and_folder(tmp_path: Path):
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


def test_a_row_that_is_no_unicode_is_named(tmp_path: Path):
    fill(tmp_path / "run", row("a"), row("b", answer="\ud800"))
    assert "sample 'b'/0 holds half a surrogate pair" in export(tmp_path / "run", "parquet", code=2)
    export(tmp_path / "run", "messages")
    assert len(lines(place(tmp_path / "run", "messages"))) == 2


# ------------------------------------------------------------------ folder and card


def test_shards_end_at_their_size(run: Path, tmp_path: Path):
    rows = list(iter_trajectories(run))
    many = [rows[0].model_copy(update={"sample": n}) for n in range(2500)]
    facts = Facts()
    write_shards(many, tmp_path / "data", facts, shard_bytes=100)
    # A row group is written at once, so a shard holds one at least.
    names = [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == names
    read = [pq.read_table(tmp_path / "data" / name).num_rows for name in names]
    assert sum(read) == 2500
    assert facts.summary.result()["samples"]["finished"] == 2500


def card(folder: Path) -> tuple[dict[str, Any], str]:
    content = (folder / "README.md").read_text(encoding="utf-8")
    return DatasetCard(content).data.to_dict(), content


def test_the_card_says_what_the_run_says(run: Path):
    export(run, "hf", "--licence", "CC-BY-4.0")
    data, text = card(place(run, "hf"))
    assert data["license"] == "cc-by-4.0"
    assert data["size_categories"] == ["n<1K"]
    assert data["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "3 samples of reasoning to fine-tune `s` on" in text
    assert "| `tessy` | 3 |" in text
    assert "| repetition | 1 |" in text
    assert "| thinking by the student | 12 | 100.0% |" in text
    assert "## Licence\n\nCC-BY-4.0." in text


def test_without_a_licence_the_card_says_so(run: Path):
    export(run, "hf")
    data, text = card(place(run, "hf"))
    assert data["license"] == "unknown"
    assert "None was stated" in text


def test_the_card_of_a_derived_run_names_its_sources(run: Path, tmp_path: Path):
    options = {"seed": 3, "first": str(run)}
    with DerivedRun.create(tmp_path / "mix", by="mix", sources=[run], options=options) as mixed:
        for line, item in source_rows(run):
            mixed.add(item, line)
        mixed.notes["mix"] = {"ratio": "1:1", "taken": {"first": 3}, "from": str(run)}
    export(tmp_path / "mix", "hf")
    _, text = card(place(tmp_path / "mix", "hf"))
    assert "made by `tessy mix` of these:\n\n- `run` (" in text
    assert "ratio 1:1; taken: first 3; from run." in text
    assert "## Failures" not in text
    assert str(tmp_path) not in text


def test_the_card_of_made_samples_shows_names_in_place_of_paths(made: Path):
    export(made, "hf")
    data, text = card(place(made, "hf"))
    assert data["pretty_name"] == "demo"
    assert "| student | `student` | 0.7 | 0.8 | 20 | 0.0 | `student_predictor` |" in text
    command = re.search(r"tessy synthesize .*", text)
    assert command
    assert "--thinking-tokens 600" in command[0]
    assert "--teacher.model teacher" in command[0]
    assert "temperature" not in command[0]  # at its default
    assert not re.search(r"(?<![\w>.])/\w", re.sub(r"https://\S+", "", text))


def test_names_are_shown_and_paths_are_not():
    for value, shown in {
        "Qwen/Qwen3-8B": "Qwen/Qwen3-8B",
        "/home/me/models/qwen": "qwen",
        "~/qwen": "qwen",
        "./qwen/": "qwen",
        "a/b/c": "c",
        "C:\\models\\qwen": "qwen",
        "mine:predictor": "mine:predictor",
    }.items():
        assert public(value) == shown
    assert size_category(999) == "n<1K"
    assert size_category(1000) == "1K<n<10K"
    assert size_category(20_000_000) == "n>10M"


# ------------------------------------------------------------------ tokens


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
    rows = RunPaths(copied).trajectories
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
    change(copied, student__trust_remote_code=True)
    assert "trust_remote_code" in export(copied, "tokens", code=2)
    change(copied, student__format=None)
    assert "does not say which tokenizer" in export(copied, "tokens", code=2)


def test_a_loss_that_is_no_loss_is_refused(made: Path):
    assert "--loss 'half' is not understood" in export(made, "tokens", "--loss", "half", code=2)


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
    assert "Nothing is learned" in export(run, "tokens", "--loss", nobody)
    export(run, "hf")
    _, text = card(place(run, "hf"))
    command = re.search(r"tessy sample --problems questions\.jsonl .*", text)
    assert command
    assert f"--author {author}" in command[0]
    assert f"--model {author}" in command[0]
    assert f"| {author} | `{author}` | 0.95 |" in text


# ------------------------------------------------------------------ loaders


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
