"""Copies of tests/data/old_run, and its original command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.lab.test_demo import finish
from tests.support.paths import TESTS

SOURCE = TESTS / "data" / "old_run"
FINISHED, FAILED = 3, 1  # samples with a row
LOAD: Any = {"seconds": True, "cost": True, "tokens": {"drafted"}}  # fields that depend on the load


def copy_to(directory: Path) -> Path:
    """Copy models, problems and run; their original paths are relative to ``directory``."""
    shutil.copytree(SOURCE, directory, dirs_exist_ok=True)
    return directory / "run"


def synthesize(*more: str, code: int = 0) -> str:
    """Resume the run in the current directory; return the output."""
    return finish(["tessy", *arguments(), *more], code)


def arguments() -> list[str]:
    found: list[str] = json.loads((SOURCE / "arguments.json").read_bytes())
    return found


def change_config(run: Path, **entries: Any) -> None:
    """Set entries of data_config (``a__b`` for the key ``a.b``); None removes one."""
    path = run / "config.json"
    document = json.loads(path.read_bytes())
    for key, value in entries.items():
        name = key.replace("__", ".")
        document["data_config"].pop(name, None)
        if value is not None:
            document["data_config"][name] = value
    path.write_text(json.dumps(document), "utf-8")
