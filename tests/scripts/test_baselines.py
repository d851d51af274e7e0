"""scripts/baselines from end to end with the bundled models, on a few problems."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from tessy.cli import main
from tests.support.paths import ROOT
from tests.support.run_data import read_run

SCRIPT = ROOT / "scripts" / "baselines"
RUNS = (
    "tessy",
    "student-only",
    "teacher-only",
    "teacher-think",
    "teacher-answer",
    "teacher-score",
    "teacher-reference",
    "tessy-teacher-answers",
    "teacher-only-system-prompt",
    "teacher-mix",
)
COUNT = 4


# Replaces the command `tessy` of the script: passes its options to this process, which has loaded
# torch already, and prints and returns the outcome.
TESSY = """#!{python} -ES
import json, os, socket, sys
with socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))) as door:
    door.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
    code, out, err = json.load(door.makefile())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


def run_here(listener: socket.socket) -> None:
    """Run the command of one call by the script, if there is one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.suppress(TimeoutError):
        calling, _ = listener.accept()
        with calling, calling.makefile() as asked:
            options = json.loads(asked.readline())
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(options)
            calling.sendall(json.dumps([code, out.getvalue(), err.getvalue()]).encode())


def environment(config: Path, out: Path, commands: Path, **more: str) -> dict[str, str]:
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CONFIG": str(config), "OUT": str(out), **more}


def baselines(config: Path, out: Path) -> str:
    """Run the script; return its standard output."""
    commands = config.parent / "bin"
    commands.mkdir(exist_ok=True)
    (commands / "tessy").write_text(TESSY.format(python=sys.executable), "utf-8")
    (commands / "tessy").chmod(0o755)
    said = config.parent / "said.txt"
    with socket.create_server(("127.0.0.1", 0)) as listener, said.open("w") as stdout:
        listener.settimeout(0.1)
        env = environment(config, out, commands, PORT=str(listener.getsockname()[1]))
        with subprocess.Popen([SCRIPT], cwd=ROOT, env=env, stdout=stdout) as script:
            while script.poll() is None:
                run_here(listener)
    assert script.returncode == 0
    return said.read_text("utf-8")


def test_every_method_is_made_once_and_shown_on_one_page(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # the script's paths are relative to it
    config = tmp_path / "few.toml"
    example = (ROOT / "examples" / "baselines.toml").read_text("utf-8")
    config.write_text(f"limit = {COUNT}\n{example}", "utf-8")
    out = tmp_path / "runs"
    said = baselines(config, out)
    assert said.splitlines()[-1].endswith(str(out / "compare.html"))
    assert sorted(path.name for path in out.iterdir()) == sorted([*RUNS, "compare.html"])
    page = (out / "compare.html").read_text("utf-8")
    rows = {}
    for name in RUNS:
        assert f'<th scope="row"><bdi>{name}</bdi></th>' in page
        run = read_run(out / name)
        assert len(run.trajectories) + len(run.failures) == COUNT
        rows[name] = (out / name / "trajectories.jsonl").read_bytes()

    baselines(config, out)
    for name in RUNS:
        assert (out / name / "trajectories.jsonl").read_bytes() == rows[name]


def test_methods_that_finish_nothing_are_on_the_page_too(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = tmp_path / "short.toml"
    example = (ROOT / "examples" / "baselines.toml").read_text("utf-8")
    short = re.sub(r"^thinking_tokens = .*", "thinking_tokens = 3", example, flags=re.MULTILINE)
    config.write_text(f"limit = 1\n{short}", "utf-8")
    out = tmp_path / "runs"
    baselines(config, out)
    page = (out / "compare.html").read_text("utf-8")
    assert f'<th scope="row"><bdi>{RUNS[0]}</bdi></th>' in page
    assert not (out / "teacher-mix").exists()


def test_a_wrong_config_ends_it_before_anything_is_made(tmp_path):
    config = tmp_path / "wrong.toml"
    config.write_text("sede = 1\n", "utf-8")
    out = tmp_path / "runs"
    env = environment(config, out, Path(sys.executable).parent)
    done = subprocess.run([SCRIPT], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "sede" in done.stderr
    assert not out.exists()
