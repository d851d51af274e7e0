"""``tessy filter`` on the command line: passed and quarantined rows, and refused options."""

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
from tessy.data.filter.command import all_rules, filter_run
from tessy.lab.write_problems import write_problems
from tessy.reports.viewer.page import write_report
from tessy.storage import jsonl
from tessy.storage.problems import load_problems
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_trajectories, read_config
from tests.support.rows import fill, keys, row

THINKING = "Okay, let's see. 2 + 2 = 4, and then 4 * 3 = 12. Hmm, that seems right."


def problem_row(name: str, prompt: str = "", sample: int = 0, **more: Any) -> Trajectory:
    item = row(name, sample, **{"thinking": f"{THINKING} {name}", "answer": "It is 12.", **more})
    turn = Message(role="user", content=prompt or f"What is (2 + 2) * 3? ({name})")
    return item.model_copy(update={"messages": (turn, *item.messages[1:])})


GOOD = [
    problem_row("plain"),
    problem_row("latex", answer="So $x = \\frac{1}{2}$, that is $\\boxed{\\frac{1}{2}}$"),
    problem_row("chinese", "二加二乘三等于多少？", thinking="好的，二加二等于四，四乘三等于十二。"),
    problem_row(
        "code", "Write a Python program for it.", answer="Here:\n```python\nprint(12)\n```"
    ),
    problem_row("right", problem={"reference": "12", "task": "calc"}),
    problem_row("worked", problem={"reference": "2 + 2 = 4\n4 * 3 = <<4*3=12>>12\n#### 12"}),
    problem_row("essay", problem={"reference": "A long text. " * 40}),
]
UNFIT = {
    "truncated": problem_row("cut", answer="Here it is:\n```python\nprint("),
    "looping": problem_row(
        "loop", thinking=f"{THINKING} " + "But wait, let me check. " * 9 + THINKING
    ),
    "empty_answer": problem_row("empty", answer=" \n"),
    "no_code": problem_row("uncoded", "Write a Python program that adds.", answer="It adds."),
    "chat_markers": problem_row("leak", answer="It is 12.<|im_end|>"),
    "language": problem_row(
        "switch", thinking=f"{THINKING} 好的，我们再检查一下这个结果是否正确。"
    ),
    "near_duplicate": problem_row("plain", sample=1),
    "wrong_answer": problem_row("wrong", problem={"reference": "13"}),
}


def run_filter(run: Path, out: Path, **options: Any) -> tuple[int, str]:
    """Return the exit code and the output."""
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


def test_unfit_rows_are_quarantined_with_their_reasons(tmp_path: Path, source: Path) -> None:
    before = {path: path.read_bytes() for path in source.iterdir()}
    code, output = run_filter(source, tmp_path / "out")
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
        assert any(line.split()[:4] == [name, "1", "6.7", "%"] for line in output.splitlines())
    assert "in_evaluation" not in output
    assert write_report(tmp_path / "out").exists()
    config = read_config(tmp_path / "out")
    assert config["config"]["run"] == str(source)
    assert config["data_config"]["derived"]["by"] == "filter"


def test_every_rule_is_in_the_help_and_can_be_skipped(tmp_path: Path, source: Path) -> None:
    help_of_skip = FilterConfig.model_fields["skip"].description or ""
    assert [name for name in all_rules() if f"`{name}`" not in help_of_skip] == []
    assert set(UNFIT) | {"in_evaluation"} == set(all_rules())
    for name in UNFIT:
        code, output = run_filter(source, tmp_path / name, skip=(name,))
        assert code == 0
        assert name not in [rule for e in quarantine(tmp_path / name) for rule in rules_of(e)]
        assert UNFIT[name].key in keys(iter_trajectories(tmp_path / name))
        assert f"\n{name} " not in output


def test_all_reasons_of_a_row_are_listed(tmp_path: Path) -> None:
    bad = problem_row("bad", answer="<think>:", problem={"reference": 13})
    fill(tmp_path / "run", problem_row("good"), bad)
    run_filter(tmp_path / "run", tmp_path / "out")
    assert rules_of(quarantine(tmp_path / "out")[0]) == [
        "truncated",
        "chat_markers",
        "wrong_answer",
    ]


def test_a_duplicate_of_a_rejected_row_passes(tmp_path: Path) -> None:
    leak = problem_row("a", answer="It is 12.</think>")
    fill(tmp_path / "run", leak, problem_row("a", sample=1), problem_row("a", sample=2))
    run_filter(tmp_path / "run", tmp_path / "out")
    assert keys(iter_trajectories(tmp_path / "out")) == [("a", 1)]
    assert [rules_of(e) for e in quarantine(tmp_path / "out")] == [
        ["chat_markers"],
        ["near_duplicate"],
    ]


def test_problems_of_an_evaluation_set_are_quarantined(tmp_path: Path) -> None:
    problem = "Jana has 27 puppies. Two thirds of them are Pomeranians. How many are not?"
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": problem}))
    fill(
        tmp_path / "run",
        problem_row("good"),
        problem_row("bad", f"Think step by step.\n{problem} Answer."),
    )
    options: dict[str, Any] = {"against": (tmp_path / "eval.jsonl",)}
    (tmp_path / "eval.jsonl").write_text(json.dumps({"text": problem}))
    with pytest.raises(InputError, match="expected prompt or messages, got text") as caught:
        run_filter(tmp_path / "run", tmp_path / "out", **options)
    assert "map the field: --fields prompt=NAME" in str(caught.value)
    assert "--skip-bad-rows" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    # Another file with a name of its own needs no map.
    (tmp_path / "other.jsonl").write_text(json.dumps({"question": "Who?"}))
    options["against"] = (*options["against"], tmp_path / "other.jsonl")
    options["fields"] = {"prompt": "text"}
    code, output = run_filter(tmp_path / "run", tmp_path / "out", **options)
    assert code == 0
    assert "in_evaluation" in output
    entry = quarantine(tmp_path / "out")[0]
    assert entry["row"]["id"] == "bad"
    assert f"({tmp_path / 'eval.jsonl'}:1)" in entry["reasons"][0]["detail"]


def test_a_terminal_shows_progress(tmp_path: Path, source: Path) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert filter_run(FilterConfig(run=source, out=tmp_path / "out"), console) == 0
    assert isinstance(console.file, io.StringIO)
    assert "Filtering" in console.file.getvalue()


def test_the_field_of_the_reference_can_be_chosen(tmp_path: Path) -> None:
    wrong = problem_row("wrong", problem={"reference": 12, "solution": 13})
    fill(tmp_path / "run", problem_row("good"), wrong)
    _, output = run_filter(tmp_path / "run", tmp_path / "out", reference="solution")
    assert rules_of(quarantine(tmp_path / "out")[0]) == ["wrong_answer"]
    assert "(1 reference in the field 'solution')" in " ".join(output.split())


def test_an_unknown_reference_field_is_refused(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    fill(run, problem_row("good"), problem_row("other", problem={"answer": 12, "task": "sum"}))
    with pytest.raises(
        ConfigError, match=r"--reference anser: .* fields of its rows: answer, task$"
    ):
        run_filter(run, out, reference="anser")
    assert not out.exists()
    assert run_filter(run, out, reference="anser", skip=("wrong_answer",))[0] == 0


@pytest.mark.parametrize("reference", [None, True, "", ["12"], {"a": 1}, "x" * 201])
def test_unusable_references_are_ignored(tmp_path: Path, reference: object) -> None:
    fill(tmp_path / "run", problem_row("a", problem={"reference": reference}))
    assert run_filter(tmp_path / "run", tmp_path / "out")[0] == 0


def test_code_can_be_required_for_every_row(tmp_path: Path) -> None:
    fill(tmp_path / "run", *GOOD)
    assert run_filter(tmp_path / "run", tmp_path / "out", require_code=True)[0] == 0
    assert [row.id for row in iter_trajectories(tmp_path / "out")] == ["code"]
    assert {tuple(rules_of(entry)) for entry in quarantine(tmp_path / "out")} == {("no_code",)}


def test_the_quarantine_is_kept_if_no_row_passes(tmp_path: Path) -> None:
    fill(tmp_path / "run", UNFIT["truncated"])
    code, output = run_filter(tmp_path / "run", tmp_path / "out")
    assert code == 1
    assert "No sample passed" in output
    assert len(quarantine(tmp_path / "out")) == 1
    assert list(iter_trajectories(tmp_path / "out")) == []


def test_invalid_options_are_refused_before_any_output(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(
        ConfigError, match="unknown rule 'nope'; expected some of truncated, looping"
    ):
        run_filter(source, out, skip=("looping", "nope"))
    with pytest.raises(ConfigError, match="all rules are skipped"):
        run_filter(source, out, skip=tuple(all_rules()))
    with pytest.raises(ConfigError, match="--require-code: has no effect"):
        run_filter(source, out, skip=("no_code",), require_code=True)
    with pytest.raises(ConfigError, match="--fields: has no effect without --against"):
        run_filter(source, out, fields={"prompt": "question"})
    with pytest.raises(InputError, match="does not exist"):
        run_filter(source, out, against=(tmp_path / "missing.jsonl",))
    with pytest.raises(RunError, match="there is no folder"):
        run_filter(tmp_path / "missing", out)
    with pytest.raises(RunError, match="contains the source"):
        run_filter(source, source, fresh=True)
    fill(tmp_path / "empty")
    with pytest.raises(RunError, match="no finished samples"):
        run_filter(tmp_path / "empty", out, reference="solution")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]


def test_filter_is_deterministic(tmp_path: Path, source: Path) -> None:
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
def test_rows_are_copied_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, str]]
) -> None:
    home = tmp_path_factory.mktemp("run")
    rows = [
        problem_row(str(n), thinking=text, answer=answer) for n, (text, answer) in enumerate(parts)
    ]
    fill(home / "run", *rows)
    run_filter(home / "run", home / "out")
    lines = RunPaths(home / "run").rows.read_bytes().splitlines(keepends=True)
    kept = RunPaths(home / "out").rows.read_bytes().splitlines(keepends=True)
    quarantined = [
        line.partition(b', "row": ')[2].removesuffix(b"}\n") + b"\n"
        for line in (home / "out" / "quarantine.jsonl").read_bytes().splitlines(keepends=True)
    ]
    assert sorted(kept + quarantined) == sorted(lines)
    assert [line for line in lines if line in kept] == kept


def test_rows_of_bundled_models_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--out", str(tmp_path / "run"), "--count", "8"]) == 0
    problems = tmp_path / "eval.jsonl"
    write_problems(problems, 50, seed=9)
    capsys.readouterr()
    arguments = ["filter", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--against", str(problems)]) == 0
    right = [
        item.key
        for item in iter_trajectories(tmp_path / "run")
        if item.problem["reference"] in item.answer
    ]
    assert keys(iter_trajectories(tmp_path / "out")) == right
    output = capsys.readouterr().err
    assert "(8 references)" in " ".join(output.split())
    assert len(load_problems(problems).problems) == 50


def test_an_interrupt_removes_the_new_run(tmp_path: Path) -> None:
    good = jsonl.dump_line(problem_row("x").model_dump())
    fill(tmp_path / "run", problem_row("first"))
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
    _, output = process.communicate()
    assert process.returncode == 130
    assert output == "tessy: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
