"""The start of a run: what is refused before anything is loaded, and waits for servers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tessy.lab.bundled import student_path, teacher_path
from tessy.synthesis.data_config import WEIGHT_NAMES
from tests.lab.test_demo import finish, synthesize
from tests.support.model_server import PLAIN_OPENAI, VLLM
from tests.support.run_data import read_run
from tests.synthesis.test_sample_command import questions, remote, serving

# Runs commands in one process and prints, for each, its exit code and whether it loaded a model.
COMMANDS = """
import json, sys
from tessy.cli import main
for command in json.loads(sys.argv[1]):
    code = main(command)
    print("ended", code, "transformers" in sys.modules or "torch" in sys.modules)
"""


def ends(*commands: list[str]) -> tuple[list[tuple[int, bool]], str]:
    """Return the exit code of each command and whether models were loaded, and all output."""
    arguments = json.dumps([command[1:] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, arguments],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    words = [line.split() for line in done.stdout.splitlines() if line.startswith("ended ")]
    return [(int(word[1]), word[2] == "True") for word in words], done.stdout + done.stderr


def test_nothing_is_loaded_for_what_is_refused_or_finished(tmp_path: Path):
    problems, run = questions(tmp_path, 2), tmp_path / "run"
    finish(synthesize(problems, run))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    command = synthesize(problems, run)
    url = ["--student.url", "http://127.0.0.1:9"]
    codes, output = ends(
        command,
        [*command, "--seed", "7"],
        synthesize(problems, foreign),
        synthesize(problems, foreign / "thesis.tex" / "run"),
        [*command, *url, "--student.api-key-env", "sk-secret"],
        [*command, "--student.url", "ftp://h"],
        [*command, "--student.tokenizer", "/no/tokenizer"],
        [*command, "--teacher.model", "/no/model"],
        [*command, "--student.predictor", "/no/predictor"],
        synthesize(tmp_path / "none.jsonl", tmp_path / "new"),
    )
    assert codes == [(0, False), *[(2, False)] * 9], output
    for part in (
        *(
            "seed: 0, now 7",
            "'thesis.tex'",
            "cannot be used",
            "--student.api-key-env: ",
            "'ftp://h'",
        ),
        *("--student.tokenizer: there is no folder", "--teacher.model: there is no folder"),
        *("'/no/predictor'", "none.jsonl"),
    ):
        assert part in output
    assert "sk-secret" not in output
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_directory_is_refused(tmp_path: Path):
    (tmp_path / "shut").mkdir(mode=0o500)
    codes, output = ends(synthesize(questions(tmp_path, 2), tmp_path / "shut" / "run"))
    assert codes == [(2, False)]
    assert "read-only" in output


def test_a_changed_tokenizer_is_refused_when_samples_are_missing(tmp_path: Path):
    run = tmp_path / "run"
    problems = questions(tmp_path, 2)
    finish([*synthesize(problems, run), "--limit", "1"])
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["data_config"]["student.format"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "student.format" in finish(synthesize(problems, run), 2)


def test_weights_that_were_trained_again_are_refused(tmp_path: Path):
    model, run = tmp_path / "model", tmp_path / "run"
    shutil.copytree(student_path(), model)
    alone = ("--strategy", "student-only", "--student.model", str(model), "--samples-per-problem")
    command = [*synthesize(questions(tmp_path, 2), run), *alone]
    finish([*command, "1"])
    shutil.copy(teacher_path() / "model.safetensors", model)
    assert "  student.weights: " in finish([*command, "2"], 2)
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["data_config"].keys() & WEIGHT_NAMES == {"student.weights"}
    del config["data_config"]["student.weights"]  # as in a run of an older version
    (run / "config.json").write_text(json.dumps(config), "utf-8")
    shutil.copy(student_path() / "model.safetensors", model)
    finish([*command, "2"])
    assert len(read_run(run).trajectories) == 4


async def test_rows_with_and_without_ids_are_not_mixed_silently(tmp_path: Path):
    run = tmp_path / "run"
    async with serving("qwen3") as server:
        command = remote("qwen3", "student", tmp_path, server)
        await asyncio.to_thread(finish, [*command, "--limit", "3"])
        rows = (run / "trajectories.jsonl").read_bytes()
        server.can = PLAIN_OPENAI
        output = await asyncio.to_thread(finish, command, 3)
        assert "new rows would hold none" in output
        assert (run / "trajectories.jsonl").read_bytes() == rows
        await asyncio.to_thread(finish, [*command, "--limit", "3", "--fresh"])
        server.can = VLLM
        output = await asyncio.to_thread(finish, command)
        assert "the rows so far hold no token ids" in output
    ids = [row.student_ids is not None for row in read_run(run).trajectories]
    assert ids == [False] * 3 + [True] * 9


async def test_progress_names_a_server_that_is_down(tmp_path: Path):
    async with serving("qwen3") as server:
        command = remote("qwen3", "student", tmp_path, server)
        command[command.index("--url") + 1] += ",http://127.0.0.1:9"
        output = await asyncio.to_thread(finish, command)
    assert "1 of 2 down (http://127.0.0.1:9)" in output


async def test_credentials_stay_out_of_every_file_and_message(tmp_path: Path):
    async with serving("qwen3") as server:
        command = remote("qwen3", "student", tmp_path, server)
        place = command.index("--url") + 1
        command[place] = command[place].replace("http://", "http://me:sesame@") + "/v1?key=mellon"
        output = await asyncio.to_thread(finish, command)
        assert "authorization" in {name.casefold() for name in server.seen[-1].headers}
    for path in (tmp_path / "run").iterdir():
        output += path.read_bytes().decode(errors="replace")
    assert "sesame" not in output
    assert "mellon" not in output


def test_a_start_without_servers_waits_and_is_interrupted_gracefully(tmp_path: Path):
    dead = ["--student.url", "http://127.0.0.1:9", "--teacher.url", "http://127.0.0.1:9"]
    process = subprocess.Popen(
        [*synthesize(questions(tmp_path, 2), tmp_path / "run"), *dead],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    shown = ""
    while "no server is ready" not in shown:
        line = process.stdout.readline()
        assert line, shown
        shown += line
    process.send_signal(signal.SIGINT)
    shown += process.communicate(timeout=100)[0]
    assert process.returncode == 130, shown
    assert "The same command resumes it." in shown


def test_patience_limits_the_wait_for_a_start(tmp_path: Path):
    dead = ["--student.url", "http://127.0.0.1:9", "--server-patience-seconds", "1"]
    output = finish([*synthesize(questions(tmp_path, 2), tmp_path / "run"), *dead], 3)
    assert "start the server or check the URL" in output
