"""Create the run in this directory: ``python make.py CHECKOUT``.

CHECKOUT is a working tree of commit 853c8d3; the interpreter has that commit's dependencies (its
constraints.txt). Models, problems and paths are relative to this directory, so that a copy of it
is an ordinary run. README.md describes it.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ARGUMENTS = json.loads((HERE / "arguments.json").read_bytes())
ENDED = 4  # samples with a row before the run is stopped
INTERRUPTED = 130


def main() -> int:
    """Make models, problems, run and expected.jsonl; returns the exit code."""
    checkout = Path(sys.argv[1]).resolve() / "src"
    sys.path.insert(0, str(checkout))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shutil.copytree(checkout / "tessy" / "lab" / "models", "models")
        make_problems = importlib.import_module("tessy.lab.questions").main
        make_problems(["problems.jsonl", "--count", "8", "--seed", "13"])
        tessy = importlib.import_module("tessy.cli").main
        press_ctrl_c_in_flight()
        if tessy(ARGUMENTS) != INTERRUPTED:
            raise SystemExit("the run was not interrupted")
        check_journal(Path("run/journal.sqlite"))
        for name in ("run.lock", "run.log", "report.html"):
            Path("run", name).unlink(missing_ok=True)
        for name in ("models", "run"):
            shutil.rmtree(HERE / name, ignore_errors=True)
            shutil.copytree(name, HERE / name)
        shutil.copy("problems.jsonl", HERE)
        rows = Path("run/trajectories.jsonl")
        before = rows.read_bytes()
        tessy(ARGUMENTS)
        (HERE / "expected.jsonl").write_bytes(rows.read_bytes().removeprefix(before))
        os.chdir(HERE)
    return 0


def press_ctrl_c_in_flight() -> None:
    """Interrupt this process once enough samples have ended and two are amid their thinking."""
    journal = importlib.import_module("tessy.storage.journal").Journal
    set_state, forget = journal.set_state, journal.forget
    states: dict[object, dict[str, Any]] = {}
    ended: set[object] = set()
    pressed = False

    def set_and_look(self: object, key: object, state: Callable[[], bytes]) -> None:
        nonlocal pressed
        set_state(self, key, state)
        states[key] = json.loads(state())
        amid = len(states) == 2 and all(state["pieces"] > 1 for state in states.values())
        if amid and len(ended) >= ENDED and not pressed:
            pressed = True
            os.kill(os.getpid(), signal.SIGINT)

    def forget_and_count(self: object, key: object) -> None:
        forget(self, key)
        states.pop(key, None)
        ended.add(key)

    journal.set_state, journal.forget = set_and_look, forget_and_count


def check_journal(path: Path) -> None:
    """Make sure that two samples have pieces, and one of them an unfinished draft."""
    with closing(sqlite3.connect(path)) as db:
        flights = db.execute(
            "SELECT state, (SELECT COUNT(*) FROM piece WHERE flight = number) FROM flight"
        ).fetchall()
    states = [json.loads(state) for state, pieces in flights if state and pieces]
    if len(flights) != 2 or len(states) != 2 or not any(s["thinking"]["draft"] for s in states):
        raise SystemExit(f"not two samples in mid-flight, run it again: {flights}")


if __name__ == "__main__":
    sys.exit(main())
