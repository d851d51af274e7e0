"""Problems of benchmarks, and what is refused before anything is generated."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tessy.config.evaluation import EvaluateConfig
from tessy.core.errors import BadRowsError, ConfigError, InputError
from tessy.evaluation.benchmarks.registry import all_benchmarks
from tessy.evaluation.files import checksum
from tessy.evaluation.judges.registry import all_judges
from tessy.evaluation.load import load_benchmark
from tests.support.paths import SHARED

NAMED = list(all_benchmarks())


def options(benchmark: Path | str, **more: Any) -> EvaluateConfig:
    return EvaluateConfig(benchmark=str(benchmark), model="m", out=Path("run"), **more)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_file_has_problems_with_answers_or_choices(tmp_path: Path):
    file = write(
        tmp_path / "own.jsonl",
        {"id": "a", "question": "2 + 2?", "answer": "#### 4"},
        {"id": "b", "problem": "Which?", "choices": ["red", "blue"], "answer": "blue"},
        {"id": "c", "prompt": "A) x B) y?", "options": ["x", "y"], "answer": "A"},
    )
    found = load_benchmark(options(file))
    asked = {problem.id: problem.messages[-1].content for problem in found.loaded.problems}
    assert asked == {
        "a": "2 + 2?",
        "b": "Which?\n\nA) red\nB) blue\n\nAnswer with the letter of the correct choice.",
        "c": "A) x B) y?",
    }
    judged = {name: (one.title(""), one.reference) for name, one in found.judged.items()}
    maths = all_judges()["maths"].title
    assert judged == {"a": (maths, "4"), "b": ("choice 3", "B"), "c": ("choice 3", "A")}
    assert found.judges() == f"choice 3, {all_judges()['maths'].title}"
    instructed = load_benchmark(options(file, instruction="Be brief."))
    assert instructed.digest == found.digest  # the same problems, asked in another way
    assert instructed.loaded.problems[0].messages[-1].content == "2 + 2?\n\nBe brief."


def test_fields_can_be_mapped(tmp_path: Path):
    row = {"uid": 7, "q": "Which?", "c": ["x", "y"], "gold": {"label": "B"}}
    fields = {"id": "uid", "prompt": "q", "choices": "c", "reference": "gold.label"}
    found = load_benchmark(options(write(tmp_path / "q.jsonl", row), fields=fields))
    assert {name: one.reference for name, one in found.judged.items()} == {"7": "B"}


def test_problems_without_a_reference_are_bad_rows(tmp_path: Path):
    rows = [{"prompt": "a", "answer": "1"}, {"prompt": "b"}, {"prompt": "c", "answer": "proof"}]
    file = write(tmp_path / "q.jsonl", *rows)
    with pytest.raises(BadRowsError) as error:
        load_benchmark(options(file))
    assert f"{file}:2: reference: the judge maths expects a short final answer" in str(error.value)
    assert "--fields reference=NAME" in str(error.value)
    found = load_benchmark(options(file, skip_bad_rows=True))
    assert len(found.loaded.problems) == 1
    assert len(found.loaded.faults) == 2


def test_unusable_benchmarks_are_refused(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"'gsm9k' is neither a file nor a benchmark; .* gsm8k, .*"
    ):
        load_benchmark(options("gsm9k"))
    file = write(tmp_path / "q.jsonl", {"question": "?", "answer": "1"})
    with pytest.raises(ConfigError, match=r"data: .* is a file already"):
        load_benchmark(options(file, data=file))
    for name in ("lcb-v7", "LCB-v6"):
        for more in ({}, {"data": file}):
            with pytest.raises(ConfigError, match="is neither a file nor a benchmark; ") as error:
                load_benchmark(options(name, **more))
            asked = str(error.value).partition("; ")[2]
            assert asked == (
                "did you mean lcb-v6 or lcb-v5? Expected a file of problems, or one of "
                + ", ".join(NAMED)
            )
    with pytest.raises(InputError, match=r"there is no file .*none.jsonl"):
        load_benchmark(options("gsm8k", data=tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match=r"'jsonl' is neither a file nor a benchmark") as error:
        load_benchmark(options("jsonl"))
    assert "jsonl" not in str(error.value).partition("benchmark;")[2]
    assert "did you mean" not in str(error.value)
    with pytest.raises(InputError, match=r"has 1 problems, but gsm8k has 1,319; .* --benchmark"):
        load_benchmark(options("gsm8k", data=file))


# The hub's checksums of these are not known: their revision is fixed.
WITHOUT_CHECKSUM = {"gpqa-diamond", "lcb-pro", "olympiadbench"}


@pytest.mark.parametrize("name", NAMED)
def test_a_benchmark_of_the_hub_has_a_fixed_revision_and_checksum(name):
    benchmark = all_benchmarks()[name]
    assert benchmark.files
    for file in benchmark.files:
        assert re.fullmatch("[0-9a-f]{40}", file.revision)
        assert re.fullmatch("|[0-9a-f]{8}|[0-9a-f]{64}", file.sha256)
        assert bool(file.sha256) == (name not in WITHOUT_CHECKSUM)
    assert all(re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", digest) for digest in benchmark.copies)
    assert benchmark.judge is None or benchmark.judge in all_judges()
    assert benchmark.rows


def test_the_help_names_the_benchmarks():
    description = EvaluateConfig.model_fields["benchmark"].description or ""
    assert set(re.findall("`(.*?)`", description)) == set(NAMED)


def test_a_file_of_the_hub_with_another_checksum_is_refused(tmp_path: Path, monkeypatch):
    file = write(tmp_path / "test.jsonl", {"problem": "?", "answer": "1"})
    asked: list[Any] = []

    def resolve(sources: list[Path]) -> list[Path]:
        asked.extend(map(str, sources))
        return [file]

    monkeypatch.setattr("tessy.evaluation.files.resolve_sources", resolve)
    with pytest.raises(InputError, match=r"from the hub has the SHA-256 .* not the expected one"):
        load_benchmark(options("aime25"))
    (source,) = asked
    assert source.startswith("hf:/")
    assert "datasets/math-ai/aime25@563bb84" in source

    def unreachable(sources: list[Path]) -> list[Path]:
        raise InputError("the hub cannot be reached")

    monkeypatch.setattr("tessy.evaluation.files.resolve_sources", unreachable)
    with pytest.raises(InputError, match="cannot be reached; pass a local file of aime25 with --d"):
        load_benchmark(options("aime25"))


def test_another_file_of_a_benchmark_is_reported(tmp_path: Path, caplog):
    rows = [{"id": str(n), "problem": f"{n}?", "answer": str(n)} for n in range(30)]
    file = write(tmp_path / "aime.jsonl", *rows)
    with caplog.at_level(logging.WARNING):
        found = load_benchmark(options("aime24", data=file))
    assert "is not a known file of aime24" in caplog.text
    assert not found.is_known
    asked = found.loaded.problems[0].messages[-1].content
    assert asked == "0?\nRemember to put your final answer within \\boxed{}."


def test_files_of_the_hub_and_those_with_their_checksum_are_known(tmp_path: Path, monkeypatch):
    rows = [{"id": str(n), "problem": f"{n}?", "answer": str(n)} for n in range(30)]
    file = write(tmp_path / "test.jsonl", *rows)
    benchmark = all_benchmarks()["aime25"]
    (hub,) = benchmark.files
    same = replace(benchmark, files=(replace(hub, sha256=checksum(file)),))
    unknown = replace(hub, sha256="")  # as that of GPQA, of which only a copy has a checksum
    gated = replace(benchmark, files=(unknown,), copies=frozenset({"41d1213c"}))
    found = {"aime25": same, "gpqa-diamond": gated}
    monkeypatch.setattr("tessy.evaluation.files.all_benchmarks", lambda: found)
    monkeypatch.setattr("tessy.evaluation.files.resolve_sources", lambda sources: [file])
    assert load_benchmark(options("gpqa-diamond")).is_known
    assert not load_benchmark(options("gpqa-diamond", data=file)).is_known
    assert load_benchmark(options("aime25")).is_known
    assert load_benchmark(options("aime25", data=file)).is_known
    assert not load_benchmark(options(file)).is_known  # a user's file


def test_gsm8k_is_recognised_and_every_problem_has_a_reference(caplog):
    file = SHARED / "data" / "gsm8k_test.jsonl"
    if not file.exists():
        pytest.skip(f"{file.name} is only in the project's own checkout")
    with caplog.at_level(logging.WARNING):
        found = load_benchmark(options("gsm8k", data=file))
    assert caplog.text == ""
    assert found.is_known
    assert len(found.judged) == 1319
    assert all(re.fullmatch(r"-?[\d,.]+", one.reference) for one in found.judged.values())
