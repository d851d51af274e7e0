"""Problems of LiveCodeBench: selection, prompts, and tests that are read when they are needed."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tessy.core.errors import BadRowsError, ConfigError, InputError
from tessy.core.records import problem_digest
from tessy.evaluation import files
from tessy.evaluation.benchmarks.registry import all_benchmarks
from tessy.evaluation.load import LoadedBenchmark, load_benchmark
from tessy.evaluation.programs.base import ProgramTest, ProgramTests
from tests.evaluation.test_load import options
from tests.support.benchmarks import sized
from tests.support.livecodebench import SIZES, case, packed, problem, release, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("lcb"))


def judged_tests(found: LoadedBenchmark, name: str) -> ProgramTests:
    tests = found.judged[name].tests
    assert tests is not None
    return tests


def test_benchmarks_are_files_or_periods_of_the_release(folder: Path, caplog):
    assert sum(SIZES) == 1055
    with caplog.at_level(logging.WARNING):
        found = load_benchmark(options("lcb-v5", data=folder))
    assert {problem.id.split("_")[0] for problem in found.loaded.problems} == {"f5"}
    assert len(found.judged) == 167
    assert "test5.jsonl is not a known file of lcb-v5" in caplog.text
    assert len(load_benchmark(options("lcb-v6", data=folder)).judged) == 175
    window = load_benchmark(options("lcb-v5-window", data=folder))
    assert len(window.judged) == 279
    assert {name.split("_")[0] for name in window.judged} == {"f3", "f4", "f5"}
    assert window.sha256 != found.sha256


def test_a_wrong_number_of_problems_is_an_error_before_any_warning(folder: Path, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        with pytest.raises(InputError, match=r"test6.jsonl has 175 problems, but lcb-v5 has 167"):
            load_benchmark(options("lcb-v5", data=folder / "test6.jsonl"))
        incomplete = tmp_path / "lcb"
        incomplete.mkdir()
        (incomplete / "test5.jsonl").symlink_to(folder / "test5.jsonl")
        with pytest.raises(InputError, match=r"has 167 .* lcb-v5-window has 279; pass a folder"):
            load_benchmark(options("lcb-v5-window", data=incomplete))
        with pytest.raises(InputError, match=r"has no file test6.jsonl; pass the file"):
            load_benchmark(options("lcb-v6", data=folder.parent))
    assert caplog.text == ""


def test_files_of_the_hub_are_checked_one_by_one(folder: Path, monkeypatch):
    asked: list[Path] = []

    def resolve(sources: list[Path]) -> list[Path]:
        asked.extend(sources)
        return [folder / source.name for source in sources]

    monkeypatch.setattr("tessy.evaluation.files.resolve_sources", resolve)
    with pytest.raises(InputError, match=r"from the hub has the SHA-256 .*; delete .*test.jsonl"):
        load_benchmark(options("lcb-v5-window"))
    assert [source.name for source in asked] == [
        "test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl",
    ]  # fmt: skip
    known = [files.checksum(folder / file.name) for file in asked]
    benchmark = all_benchmarks()["lcb-v5-window"]
    for shown, fails in ((8, False), (64, False), (0, True)):
        expected = [
            replace(file, sha256=sha256[:shown] or "0" * 8)
            for file, sha256 in zip(benchmark.files, known, strict=True)
        ]
        changed = {"lcb-v5-window": replace(benchmark, files=tuple(expected))}
        monkeypatch.setattr(files, "all_benchmarks", lambda changed=changed: changed)
        if fails:
            with pytest.raises(InputError, match="not the expected one"):
                load_benchmark(options("lcb-v5-window"))
        else:
            assert len(load_benchmark(options("lcb-v5-window")).judged) == 279


def test_prompts_are_those_of_opencompass(tmp_path: Path, monkeypatch):
    starter = "class Solution:\n    def add(self, a: int, b: int) -> int:\n        "
    rows = [
        problem("a"),
        problem("b", starter_code=starter, metadata=json.dumps({"func_name": "add"})),
    ]
    sized(monkeypatch, "lcb-v5", 2)
    found = load_benchmark(options("lcb-v5", data=write(tmp_path / "test5.jsonl", *rows)))
    stdin, functional = (row.messages[0].content for row in found.loaded.problems)
    assert stdin == (
        "### Question:\nPrint the sum of two numbers (a).\n\n### Format: Read the inputs from "
        "stdin solve the problem and write the answer to stdout (do not directly test on the "
        "sample inputs). Enclose your code within delimiters as follows.\n```python\n# YOUR CODE "
        "HERE\n```\n\n### Answer: (use the provided format with backticks)\n\n"
    )
    assert functional == (
        "### Question:\nPrint the sum of two numbers (b).\n\n### Format: You will use the "
        "following starter code to write the solution to the problem and enclose your code within "
        f"delimiters.\n```python\n{starter}\n```\n\n### Answer: (use the provided format with "
        "backticks)\n\n"
    )
    kinds = [
        (t.kind, t.function, t.language, t.seconds) for t in (judged_tests(found, n) for n in "ab")
    ]
    assert kinds == [("stdin", None, "python", 6.0), ("functional", "add", "python", 6.0)]


def test_tests_are_read_from_the_file_when_they_are_needed(tmp_path: Path, monkeypatch):
    sized(monkeypatch, "lcb-v5", 3)
    for name in ("test5.jsonl", "test5.jsonl.gz"):
        file = write(tmp_path / "test5.jsonl", *map(problem, ("a", "é☃", "abc311_c")))
        if name.endswith(".gz"):
            import gzip

            (tmp_path / name).write_bytes(gzip.compress(file.read_bytes()))
        found = load_benchmark(options("lcb-v5", data=tmp_path / name))
        shown = repr([p.model_dump() for p in found.loaded.problems]) + repr(found)
        assert "secret" not in shown
        assert packed([case("20 22", "42 secret-a")]) not in shown
        for problem_id in ("abc311_c", "a", "é☃"):
            assert list(judged_tests(found, problem_id).load()) == [
                ProgramTest("1 2", "3"),
                ProgramTest("20 22", f"42 secret-{problem_id}"),
            ]
        extra = {p.id: p.extra.get("errata") for p in found.loaded.problems}
        assert extra["a"] is None
        assert "several answers" in str(extra["abc311_c"])


def test_a_file_that_changes_during_the_run_is_an_error(tmp_path: Path, monkeypatch):
    sized(monkeypatch, "lcb-v5", 1)
    file = write(tmp_path / "test5.jsonl", problem("a"))
    tests = judged_tests(load_benchmark(options("lcb-v5", data=file)), "a")
    write(file, problem("a", private_test_cases=packed([case("0 0", "0")])))
    with pytest.raises(InputError, match=r"test5.jsonl:1: the tests have changed"):
        tests.load()
    file.write_text("{}\n")
    with pytest.raises(InputError, match=r"test5.jsonl:1: has no tests any more"):
        tests.load()
    file.unlink()
    with pytest.raises(InputError, match=r"test5.jsonl:1: cannot be read again"):
        tests.load()


class Code:
    def __reduce__(self):
        return os.system, ("exit 3",)


BOMB = base64.b64encode(zlib.compress(pickle.dumps(" " * (96 << 20)))).decode()
CODE = base64.b64encode(zlib.compress(pickle.dumps(Code()))).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"private_test_cases": CODE}, "private_test_cases: .* could run code"),
        ({"private_test_cases": BOMB}, "private_test_cases: .* expand to more than"),
        ({"private_test_cases": packed([]), "public_test_cases": "[]"}, "expected tests, got none"),
        ({"private_test_cases": None}, "private_test_cases: expected text, got null"),
        ({"public_test_cases": "{}"}, "public_test_cases: expected a JSON list"),
        ({"question_content": " "}, "question_content: expected text, got empty text"),
        ({"metadata": "{"}, "metadata: expected a JSON object"),
        ({"metadata": '{"func_name": "a b"}'}, "metadata: expected the name of a function"),
        ({"question_id": "a"}, "question_id: expected unique ids"),
    ],
)
def test_unusable_rows_name_file_line_and_field(tmp_path: Path, monkeypatch, change, message):
    sized(monkeypatch, "lcb-v5", 2)
    file = write(tmp_path / "test5.jsonl", problem("a"), problem("b") | change)
    with pytest.raises(BadRowsError, match=rf"(?s){file}:2: .*{message}"):
        load_benchmark(options("lcb-v5", data=file))


def test_the_tests_of_a_file_with_the_published_checksum_are_not_decoded_at_load(
    tmp_path: Path, monkeypatch
):
    rows: list[dict[str, Any]] = [problem("a"), problem("b", private_test_cases=CODE)]
    file = write(tmp_path / "test5.jsonl", *rows)
    sized(monkeypatch, "lcb-v5", 2, known=file)
    found = load_benchmark(options("lcb-v5", data=file))
    with pytest.raises(InputError, match=r"test5.jsonl:2: private_test_cases: .* could run code"):
        judged_tests(found, "b").load()
    # Without public tests nothing else shows that there are some.
    rows[1] |= {"public_test_cases": "[]", "private_test_cases": packed([case("1", "1")])}
    sized(monkeypatch, "lcb-v5", 2, known=write(file, *rows))
    assert len(load_benchmark(options("lcb-v5", data=file)).judged) == 2
    rows[1] |= {"private_test_cases": packed([])}
    sized(monkeypatch, "lcb-v5", 2, known=write(file, *rows))
    with pytest.raises(BadRowsError, match="expected tests, got none"):
        load_benchmark(options("lcb-v5", data=file))


def test_other_tests_are_another_benchmark(tmp_path: Path, monkeypatch):
    sized(monkeypatch, "lcb-v5", 1)
    first = load_benchmark(options("lcb-v5", data=write(tmp_path / "a.jsonl", problem("a"))))
    other = problem("a", private_test_cases=packed([case("0 0", "0")]))
    second = load_benchmark(options("lcb-v5", data=write(tmp_path / "b.jsonl", other)))
    digests = [problem_digest(one.loaded.problems[0].messages) for one in (first, second)]
    assert digests[0] == digests[1]
    assert first.digest != second.digest


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"judge": "maths"}, "--judge: the responses to lcb-v5 are programs"),
        ({"fields": {"prompt": "q"}}, "--fields: the files of lcb-v5 have a format of their own"),
        ({"skip_bad_rows": True}, "--skip-bad-rows: "),
    ],
)
def test_options_that_do_not_apply_are_refused(folder: Path, more, message):
    with pytest.raises(ConfigError, match=message):
        load_benchmark(options("lcb-v5", data=folder, **more))
