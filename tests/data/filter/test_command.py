from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tessy import cli
from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError, InputError, RunError
from tessy.core.records import Message, Trajectory
from tessy.data.filter.command import filter_run
from tessy.data.filter.registry import all_rules
from tessy.lab.questions import write_questions
from tessy.reports.viewer.page import write_report
from tessy.storage import jsonl
from tessy.storage.problems import load_problems
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_trajectories, read_config
from tests.support.rows import fill, keys, row

THINKING = "Okay, let's see. 2 + 2 = 4, and then 4 * 3 = 12. Hmm, that seems right."


def asked(name: str, question: str = "", sample: int = 0, **more: Any) -> Trajectory:
    item = row(name, sample, **{"thinking": f"{THINKING} {name}", "answer": "It is 12.", **more})
    turn = Message(role="user", content=question or f"What is (2 + 2) * 3? ({name})")
    return item.model_copy(update={"messages": (turn, *item.messages[1:])})


GOOD = [
    asked("plain"),
    asked("latex", answer="So $x = \\frac{1}{2}$, that is $\\boxed{\\frac{1}{2}}$"),
    asked("chinese", "二加二乘三等于多少？", thinking="好的，二加二等于四，四乘三等于十二。"),
    asked("code", "Write a Python program for it.", answer="Here:\n```python\nprint(12)\n```"),
    asked("right", problem={"reference": "12", "task": "calc"}),
    asked("worked", problem={"reference": "2 + 2 = 4\n4 * 3 = <<4*3=12>>12\n#### 12"}),
    asked("essay", problem={"reference": "A long text. " * 40}),
]
UNFIT = {
    "truncated": asked("cut", answer="Here it is:\n```python\nprint("),
    "looping": asked("loop", thinking=f"{THINKING} " + "But wait, let me check. " * 9 + THINKING),
    "empty_answer": asked("empty", answer=" \n"),
    "no_code": asked("uncoded", "Write a Python program that adds.", answer="It adds."),
    "chat_markers": asked("leak", answer="It is 12.<|im_end|>"),
    "language": asked("switch", thinking=f"{THINKING} 好的，我们再检查一下这个结果是否正确。"),
    "near_duplicate": asked("plain", sample=1),
    "wrong_answer": asked("wrong", problem={"reference": "13"}),
}


def filtered(run: Path, out: Path, **options: Any) -> tuple[int, str]:
    """The exit code, and what is said."""
    console = Console(file=io.StringIO(), width=100)
    code = filter_run(FilterConfig(run=run, out=out, **options), console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def quarantine(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "quarantine.jsonl").read_bytes().splitlines()]


def rules_of(entry: dict[str, Any]) -> list[str]:
    return [reason["rule"] for reason in entry["reasons"]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    fill(tmp_path / "run", *GOOD, *UNFIT.values())
    return tmp_path / "run"


def test_unfit_rows_are_set_aside_with_their_reasons(tmp_path: Path, source: Path) -> None:
    before = {path: path.read_bytes() for path in source.iterdir()}
    code, said = filtered(source, tmp_path / "out")
    assert code == 0
    assert keys(iter_trajectories(tmp_path / "out")) == keys(GOOD)
    entries = quarantine(tmp_path / "out")
    assert [rules_of(entry) for entry in entries] == [[name] for name in UNFIT]
    lines = RunPaths(source).rows.read_bytes().splitlines()
    kept = RunPaths(tmp_path / "out").rows.read_bytes().splitlines()
    assert kept == lines[: len(GOOD)]
    assert [entry["row"] for entry in entries] == [json.loads(line) for line in lines[len(GOOD) :]]
    assert all(reason["detail"] for entry in entries for reason in entry["reasons"])
    assert entries[-2]["reasons"][0]["detail"].endswith("sample 0 of 'plain'")
    assert entries[-1]["reasons"][0]["detail"] == (
        "the reference is '13', the answer ends 'It is 12.'"
    )
    assert {path: path.read_bytes() for path in source.iterdir()} == before
    summary = json.loads(RunPaths(tmp_path / "out").summary.read_bytes())
    assert summary["samples"]["finished"] == len(GOOD)
    assert summary["filter"]["rows"] == {"in": 15, "passed": 7, "rejected": 8}
    assert summary["filter"]["rules"]["wrong_answer"] == {"rows": 1, "share": 0.0667, "judged": 3}
    assert summary["filter"]["rules"]["looping"] == {"rows": 1, "share": 0.0667}
    for name in UNFIT:
        assert any(line.split()[:4] == [name, "1", "6.7", "%"] for line in said.splitlines())
    assert "in_evaluation" not in said
    assert write_report(tmp_path / "out").exists()
    config = read_config(tmp_path / "out")
    assert config["config"]["run"] == str(source)
    assert config["data_config"]["derived"]["by"] == "filter"


def test_every_rule_has_a_name_to_skip_it_by(tmp_path: Path, source: Path) -> None:
    help_of_skip = FilterConfig.model_fields["skip"].description or ""
    assert [name for name in all_rules() if f"`{name}`" not in help_of_skip] == []
    assert set(UNFIT) | {"in_evaluation"} == set(all_rules())
    for name in UNFIT:
        code, said = filtered(source, tmp_path / name, skip=(name,))
        assert code == 0
        assert name not in [rule for e in quarantine(tmp_path / name) for rule in rules_of(e)]
        assert UNFIT[name].key in keys(iter_trajectories(tmp_path / name))
        assert f"\n{name} " not in said


def test_all_reasons_of_a_row_are_told(tmp_path: Path) -> None:
    bad = asked("bad", answer="<think>:", problem={"reference": 13})
    fill(tmp_path / "run", asked("good"), bad)
    filtered(tmp_path / "run", tmp_path / "out")
    assert rules_of(quarantine(tmp_path / "out")[0]) == [
        "truncated",
        "chat_markers",
        "wrong_answer",
    ]


def test_a_duplicate_of_a_rejected_row_may_stay(tmp_path: Path) -> None:
    leak = asked("a", answer="It is 12.</think>")
    fill(tmp_path / "run", leak, asked("a", sample=1), asked("a", sample=2))
    filtered(tmp_path / "run", tmp_path / "out")
    assert keys(iter_trajectories(tmp_path / "out")) == [("a", 1)]
    assert [rules_of(e) for e in quarantine(tmp_path / "out")] == [
        ["chat_markers"],
        ["near_duplicate"],
    ]


def test_questions_of_an_evaluation_set_are_set_aside(tmp_path: Path) -> None:
    question = "Jana has 27 puppies. Two thirds of them are Pomeranians. How many are not?"
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": question}))
    fill(tmp_path / "run", asked("good"), asked("bad", f"Think step by step.\n{question} Answer."))
    options: dict[str, Any] = {"against": (tmp_path / "eval.jsonl",)}
    with pytest.raises(InputError, match="expected prompt or messages, got question") as caught:
        filtered(tmp_path / "run", tmp_path / "out", **options)
    assert "map the field: --fields prompt=question" in str(caught.value)
    assert "--skip-bad-rows" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    options["fields"] = {"prompt": "question"}
    code, said = filtered(tmp_path / "run", tmp_path / "out", **options)
    assert code == 0
    assert "in_evaluation" in said
    entry = quarantine(tmp_path / "out")[0]
    assert entry["row"]["id"] == "bad"
    assert f"({tmp_path / 'eval.jsonl'}:1)" in entry["reasons"][0]["detail"]


def test_a_terminal_shows_how_far_it_is(tmp_path: Path, source: Path) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert filter_run(FilterConfig(run=source, out=tmp_path / "out"), console) == 0
    assert isinstance(console.file, io.StringIO)
    assert "Filtering" in console.file.getvalue()


def test_another_field_may_hold_the_reference(tmp_path: Path) -> None:
    wrong = asked("wrong", problem={"reference": 12, "solution": 13})
    fill(tmp_path / "run", asked("good"), wrong)
    _, said = filtered(tmp_path / "run", tmp_path / "out", reference="solution")
    assert rules_of(quarantine(tmp_path / "out")[0]) == ["wrong_answer"]
    assert "(1 rows have one in 'solution')" in " ".join(said.split())


def test_a_reference_field_that_no_row_has_is_refused(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    fill(run, asked("good"), asked("other", problem={"answer": 12, "task": "sum"}))
    with pytest.raises(ConfigError, match=r"--reference anser: .* rows have: answer, task$"):
        filtered(run, out, reference="anser")
    assert not out.exists()
    assert filtered(run, out, reference="anser", skip=("wrong_answer",))[0] == 0


@pytest.mark.parametrize("reference", [None, True, "", ["12"], {"a": 1}, "x" * 201])
def test_what_is_no_short_reference_is_not_judged(tmp_path: Path, reference: object) -> None:
    fill(tmp_path / "run", asked("a", problem={"reference": reference}))
    assert filtered(tmp_path / "run", tmp_path / "out")[0] == 0


def test_code_can_be_required_of_every_row(tmp_path: Path) -> None:
    fill(tmp_path / "run", *GOOD)
    assert filtered(tmp_path / "run", tmp_path / "out", require_code=True)[0] == 0
    assert [row.id for row in iter_trajectories(tmp_path / "out")] == ["code"]
    assert {tuple(rules_of(entry)) for entry in quarantine(tmp_path / "out")} == {("no_code",)}


def test_where_nothing_passes_the_quarantine_is_kept(tmp_path: Path) -> None:
    fill(tmp_path / "run", UNFIT["truncated"])
    code, said = filtered(tmp_path / "run", tmp_path / "out")
    assert code == 1
    assert "No sample passed" in said
    assert len(quarantine(tmp_path / "out")) == 1
    assert list(iter_trajectories(tmp_path / "out")) == []


def test_bad_options_are_refused_before_any_work(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="no rule 'nope'; the rules: truncated, looping, empty"):
        filtered(source, out, skip=("looping", "nope"))
    with pytest.raises(ConfigError, match="no rule is left"):
        filtered(source, out, skip=tuple(all_rules()))
    with pytest.raises(ConfigError, match="--require-code: the rule it is for"):
        filtered(source, out, skip=("no_code",), require_code=True)
    with pytest.raises(ConfigError, match="--fields: names fields of the files of --against"):
        filtered(source, out, fields={"prompt": "question"})
    with pytest.raises(InputError, match="does not exist"):
        filtered(source, out, against=(tmp_path / "missing.jsonl",))
    with pytest.raises(RunError, match=r"no config\.json"):
        filtered(tmp_path / "missing", out)
    with pytest.raises(RunError, match="holds the source"):
        filtered(source, source, fresh=True)
    fill(tmp_path / "empty")
    with pytest.raises(RunError, match="no finished sample"):
        filtered(tmp_path / "empty", out, reference="solution")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]


def test_the_same_run_gives_the_same_files(tmp_path: Path, source: Path) -> None:
    written = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", "import sys; from tessy.cli import main; sys.exit(main())"]
        out = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [*command, "filter", str(source), "--out", str(out)], env=environment, check=True
        )
        names = ("trajectories.jsonl", "quarantine.jsonl", "summary.json")
        written.append([(out / name).read_bytes() for name in names])
    assert written[0] == written[1]


texts = st.text(st.characters(codec="utf-8"), max_size=60)


@settings(max_examples=30)
@given(st.lists(st.tuples(texts.filter(bool), texts), min_size=1, max_size=6))
def test_no_byte_of_a_row_is_lost_or_changed(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, str]]
) -> None:
    home = tmp_path_factory.mktemp("run")
    rows = [asked(str(n), thinking=said, answer=answer) for n, (said, answer) in enumerate(parts)]
    fill(home / "run", *rows)
    filtered(home / "run", home / "out")
    lines = RunPaths(home / "run").rows.read_bytes().splitlines(keepends=True)
    kept = RunPaths(home / "out").rows.read_bytes().splitlines(keepends=True)
    aside = [
        line.partition(b', "row": ')[2].removesuffix(b"}\n") + b"\n"
        for line in (home / "out" / "quarantine.jsonl").read_bytes().splitlines(keepends=True)
    ]
    assert sorted(kept + aside) == sorted(lines)
    assert [line for line in lines if line in kept] == kept


def test_rows_of_bundled_models_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--out", str(tmp_path / "run"), "--count", "8"]) == 0
    questions = tmp_path / "eval.jsonl"
    write_questions(questions, 50, seed=9)
    capsys.readouterr()
    arguments = ["filter", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--against", str(questions)]) == 0
    right = [
        item.key
        for item in iter_trajectories(tmp_path / "run")
        if item.problem["reference"] in item.answer
    ]
    assert keys(iter_trajectories(tmp_path / "out")) == right
    said = capsys.readouterr().err
    assert "8 rows have one in 'reference'" in " ".join(said.split())
    assert len(load_problems(questions).problems) == 50


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    good = jsonl.dump_line(asked("x").model_dump())
    fill(tmp_path / "run", asked("first"))
    with RunPaths(tmp_path / "run").rows.open("ab") as file:
        for number in range(30_000):
            file.write(good.replace(b'"id": "x"', b'"id": "%d"' % number))
    command = [sys.executable, "-c", "import sys; from tessy.cli import main; sys.exit(main())"]
    arguments = ["filter", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("out.partial-*/quarantine.jsonl")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said == "tessy: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
