"""Running `tessy annotate` in tests: responses, rules, options and outputs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from tessy.boundary.annotation.annotate import annotate
from tessy.config.predictors import AnnotateConfig
from tests.support.chat_server import FakeChat
from tests.support.rows import failure, fill, row

SENTENCE = "Okay, so we add {n} and 4. But wait, that is odd. So it is {m}. "
RULE = """
import re

def style(text: str) -> list[str]:
    return re.findall(r"Okay,|But wait,|So\\b|Hmm\\.", text)

def nothing(text: str) -> list[str]:
    return []

def liar(text: str) -> list[str]:
    return ["Hullo"]

def fails(text: str) -> list[str]:
    return text if text.startswith("Okay, so 3 +") else [][1]

def not_strings(text: str) -> list[str]:
    return [3]

def two(text: str, more: str) -> list[str]:
    return []
"""


def thinking(number: int, sentences: int = 9) -> str:
    return "".join(SENTENCE.format(n=number + i, m=number + i + 4) for i in range(sentences))


def fill_responses(directory: Path) -> Path:
    """Create a run of eight responses and one failure."""
    rows = [row(f"q{n // 2}", n % 2, thinking=thinking(n).strip()) for n in range(8)]
    fill(directory, *rows, failure("lost"))
    return directory


def write_rules(path: Path) -> Path:
    path.write_text(RULE, "utf-8")
    return path


def config(responses: Path, *servers: FakeChat, **options: Any) -> AnnotateConfig:
    given: dict[str, Any] = {
        "responses": responses,
        "out": responses.parent / "out",
        "segment_words": 30,
        "concurrency": 4,
    }
    if servers:
        given |= {"model": "strong", "url": tuple(server.url for server in servers)}
    return AnnotateConfig(**{**given, **options})


def run(options: AnnotateConfig) -> tuple[int, str]:
    output = io.StringIO()
    code = annotate(options, Console(file=output, width=120))
    return code, output.getvalue()


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text("utf-8"))
    return found


def thinkings(responses: Path) -> dict[tuple[str, int], str]:
    lines = (responses / "trajectories.jsonl").read_text("utf-8").splitlines()
    rows = map(json.loads, lines)
    return {(row["id"], row["sample"]): row["thinking"] for row in rows}
