"""The exported folder: its shards and its data card."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest

from tessy.core.records import Restyling
from tessy.data.derived_run import DerivedRun, source_rows
from tessy.data.export.card import size_category
from tessy.data.export.parquet import write_shards
from tessy.data.export.provenance import public
from tessy.storage.run_reader import iter_trajectories
from tests.support.exported_runs import (
    card,
    export,
    made_run,
    place,
    small_run,
)
from tests.support.rows import fill, row


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return small_run(tmp_path / "run")


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("synthesized"))


def test_shards_end_at_the_size_limit(run: Path, tmp_path: Path):
    rows = list(iter_trajectories(run))
    many = [rows[0].model_copy(update={"sample": n}) for n in range(2500)]
    write_shards(many, tmp_path / "data", shard_bytes=100)
    # A row group is written at once, so a shard contains at least one.
    names = [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == names
    read = [pq.read_table(tmp_path / "data" / name).num_rows for name in names]
    assert sum(read) == 2500


def test_the_card_describes_the_run(run: Path):
    export(run, "hf", "--licence", "CC-BY-4.0")
    data, text = card(place(run, "hf"))
    assert data["license"] == "cc-by-4.0"
    assert data["size_categories"] == ["n<1K"]
    assert data["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "3 reasoning samples for fine-tuning `s`, generated with" in text
    assert "| `tessy` | 3 |" in text
    assert "Not included: 1 failed sample." in text
    assert "| repetition | 1 |" in text
    assert "| thinking by the student | 12 | 100.0 % |" in text
    assert "## Licence\n\nCC-BY-4.0." in text


def test_the_card_names_every_column(run: Path):
    export(run, "hf")
    _, text = card(place(run, "hf"))
    columns = text.partition("## Columns")[2].partition("## Licence")[0]
    (shard,) = (place(run, "hf") / "data").iterdir()
    assert set(re.findall(r"`([a-z_]+)[`\[]", columns)) >= set(pq.read_schema(shard).names)


def test_the_card_states_a_missing_licence(run: Path):
    export(run, "hf")
    data, text = card(place(run, "hf"))
    assert data["license"] == "unknown"
    assert "No licence was given" in text


def test_the_card_of_a_derived_run_names_its_sources(run: Path, tmp_path: Path):
    options = {"seed": 3, "first": str(run)}
    with DerivedRun(tmp_path / "mix", by="mix", sources=[run], options=options) as mixed:
        for line, item in source_rows(run):
            mixed.add(item, line)
        mixed.notes["mix"] = {"ratio": "1:1", "taken": {"first": 3}, "from": str(run)}
    export(tmp_path / "mix", "hf")
    _, text = card(place(tmp_path / "mix", "hf"))
    assert "`tessy mix` created this run from:\n\n- `run` (" in text
    assert "Its summary: ratio 1:1; taken: first 3; from run." in text
    assert "differ between the sources" in text
    assert "## Failures" not in text
    assert str(tmp_path) not in text


def test_the_card_shows_names_instead_of_paths(synthesized: Path):
    export(synthesized, "hf")
    data, text = card(place(synthesized, "hf"))
    assert data["pretty_name"] == "demo"
    assert "| student | `student` | 0.7 | 0.8 | 20 | 0.0 | `student_predictor` |" in text
    command = re.search(r"tessy synthesize .*", text)
    assert command
    assert "--thinking-tokens 600" in command[0]
    assert "--teacher.model teacher" in command[0]
    assert "temperature" not in command[0]  # has its default
    assert not re.search(r"(?<![\w>.])/\w", re.sub(r"https://\S+", "", text))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/secret/place/traces.jsonl", "traces.jsonl"),
        ("runs/teacher", "teacher"),
        ("hf:/datasets/open-r1/OpenR1-Math-220k@v1", "hf://datasets/open-r1/OpenR1-Math-220k@v1"),
    ],
)
def test_the_card_names_the_source_of_traces(tmp_path: Path, source: str, shown: str):
    run = tmp_path / "run"
    digests = ("c" * 16, "b" * 16, "c" * 16)
    rows = [row(str(n), restyle=Restyling(trace=d, split_by="r")) for n, d in enumerate(digests)]
    fill(run, *rows)
    config = json.loads((run / "config.json").read_text())
    config["config"]["traces"] = source
    (run / "config.json").write_text(json.dumps(config))
    export(run, "hf")
    _, text = card(place(run, "hf"))
    digest = hashlib.sha256(f"{digests[1]}\n{digests[0]}".encode()).hexdigest()[:16]
    sentence = f"2 traces from `{shown}` (digest of these traces: {digest}…)"
    assert sentence in text
    assert f" --traces {shown}" in text
    assert "secret" not in text
    for name, before in (("once", run), ("twice", tmp_path / "once")):
        with DerivedRun(tmp_path / name, by="filter", sources=[before], options={}) as derived:
            for line, item in source_rows(before):
                derived.add(item, line)
    export(tmp_path / "twice", "hf")
    assert sentence in card(place(tmp_path / "twice", "hf"))[1]


def test_the_card_quotes_the_system_prompt_unchanged(run: Path):
    config = json.loads((run / "config.json").read_text())
    prompt = "Antworte kurz, 好的:\n```\n# Title\n````"
    config["data_config"]["system_prompt"] = prompt
    (run / "config.json").write_text(json.dumps(config))
    export(run, "hf")
    _, text = card(place(run, "hf"))
    assert f"`````text\n{prompt}\n`````\n" in text
    assert text.count("\n`````") == 4  # also around the command


def test_public_shortens_paths_and_keeps_ids():
    for value, shown in {
        "Qwen/Qwen3-8B": "Qwen/Qwen3-8B",
        "/models/of/mine/qwen": "qwen",
        "~/qwen": "qwen",
        "./qwen/": "qwen",
        "a/b/c": "c",
        "C:\\models\\qwen": "qwen",
        "mine:predictor": "mine:predictor",
        "hf:/datasets/openai/gsm8k@main": "hf://datasets/openai/gsm8k@main",
    }.items():
        assert public(value) == shown


def test_size_categories():
    assert size_category(999) == "n<1K"
    assert size_category(1000) == "1K<n<10K"
    assert size_category(20_000_000) == "n>10M"
