"""Files in the format of LiveCodeBench, with problems of our own."""

from __future__ import annotations

import base64
import datetime
import json
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZES = (400, 111, 101, 101, 167, 175)  # of the real files
FIRST_DAY = datetime.date(2023, 5, 1)
WINDOW = datetime.date(2024, 8, 1)
IN_WINDOW = 279


def packed(tests: Sequence[dict[str, Any]], protocol: int = 4) -> str:
    """Return tests as the private ones are encoded."""
    pickled = pickle.dumps(json.dumps(list(tests)), protocol=protocol)
    return base64.b64encode(zlib.compress(pickled)).decode("ascii")


def case(given: str, output: str, kind: str = "stdin") -> dict[str, str]:
    """Return a test."""
    return {"input": given, "output": output, "testtype": kind}


def problem(name: str, day: datetime.date = WINDOW, **more: Any) -> dict[str, Any]:
    """Return a problem: print the sum of two numbers."""
    return {
        "question_title": f"Sum {name}",
        "question_content": f"Print the sum of two numbers ({name}).",
        "platform": "atcoder",
        "question_id": name,
        "contest_id": "own",
        "contest_date": f"{day}T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([case("1 2", "3")]),
        "private_test_cases": packed([case("20 22", f"42 secret-{name}")]),
        "metadata": "{}",
        **more,
    }


def release(folder: Path) -> Path:
    """Write all files, with as many problems as the real ones; ids have the number of the file."""
    left = IN_WINDOW - SIZES[3] - SIZES[4]
    for number, size in enumerate(SIZES, 1):
        rows = []
        for row in range(size):
            day = FIRST_DAY
            if number in (4, 5) or (number == 3 and row < left):
                day = datetime.date(2025, 2, 1) if row % 2 else WINDOW
            elif number == 6:
                day = datetime.date(2025, 2, 2)
            elif row % 2:
                day = datetime.date(2024, 7, 31) if number < 3 else datetime.date(2025, 2, 2)
            rows.append(problem(f"f{number}_{row}", day))
        write(folder / f"test{number if number > 1 else ''}.jsonl", *rows)
    return folder


def write(path: Path, *rows: dict[str, Any]) -> Path:
    """Write a file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path
