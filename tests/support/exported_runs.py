"""Runs to export, and exported files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard

from tessy.core.records import Message, StudentIds, pack_ids
from tests.lab.test_demo import finish
from tests.support.rows import failure, fill, row

TRAINERS = ("llama-factory", "ms-swift", "xtuner", "axolotl")
FORMATS = ("messages", "sharegpt", "dialogs", "parquet", "hf", "tokens", *TRAINERS)
PLAIN = tuple(name for name in FORMATS if name not in ("tokens", "axolotl"))  # no tokenizer
SYSTEM = Message(role="system", content="Be brief.")


def export(run: Path, to: str, *more: str, code: int = 0) -> str:
    return finish(["tessy", "export", str(run), "--to", to, *more], code)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def place(run: Path, to: str) -> Path:
    suffixes = {"parquet": ".parquet", "tokens": ".parquet"} | dict.fromkeys(("hf", *TRAINERS), "")
    suffix = suffixes.get(to, ".jsonl")
    return run / "export" / f"{to}{suffix}"


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def small_run(directory: Path) -> Path:
    """Write a run: three samples of two problems, one with a system message, and a failure."""
    ids = StudentIds(thinking=pack_ids([5, 6, 7]), answer=pack_ids([8]))
    plain = row("b", student_ids=ids, scores=(7.5, None), problem={"n": 1, "tags": ["汉"]})
    fill(
        directory,
        row("a", 0),
        row("a", 1, thinking="So: “5”.\n好", answer="</s> & co"),
        plain.model_copy(update={"messages": (SYSTEM, *plain.messages)}),
        failure("c", reason="repetition"),
    )
    return directory


def made_run(directory: Path) -> Path:
    """Generate a run with the bundled models."""
    out = directory / "demo"
    finish(["tessy", "demo", "--out", str(out), "--count", "3"])
    return out


def card(folder: Path) -> tuple[dict[str, Any], str]:
    content = (folder / "README.md").read_text(encoding="utf-8")
    return DatasetCard(content).data.to_dict(), content
