"""Copies of tests/data/old_run, and the command line as its maker gave it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.lab.test_demo import finish
from tests.support.paths import TESTS

SOURCE = TESTS / "data" / "old_run"
FINISHED, FAILED = 3, 1  # samples with a row
LOAD: Any = {"seconds": True, "cost": True, "tokens": {"drafted"}}  # what depends on the load


def copy_to(directory: Path) -> Path:
    """Copy models, problems and run; a process in ``directory`` finds all under the old names."""
    shutil.copytree(SOURCE, directory, dirs_exist_ok=True)
    return directory / "run"


def synthesize(*more: str, code: int = 0) -> str:
    """Resume the run in the current directory; its output."""
    return finish(["tessy", *arguments(), *more], code)


def arguments() -> list[str]:
    found: list[str] = json.loads((SOURCE / "arguments.json").read_bytes())
    return found


def change_config(run: Path, **entries: Any) -> None:
    """Set entries of data_config; None removes one (``__`` stands for the dot of a name)."""
    path = run / "config.json"
    document = json.loads(path.read_bytes())
    for key, value in entries.items():
        name = key.replace("__", ".")
        document["data_config"].pop(name, None)
        if value is not None:
            document["data_config"][name] = value
    path.write_text(json.dumps(document), "utf-8")
