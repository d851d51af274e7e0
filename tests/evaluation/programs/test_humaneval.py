"""HumanEval: its own solutions are accepted, and none without a body."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
from collections.abc import Callable, Mapping

import pytest

from tests.support.paths import SHARED
from tests.support.sandboxes import program_tests, running_judge

FILE = SHARED / "data" / "HumanEval.jsonl.gz"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="needs the shared data")

Problem = Mapping[str, str]


def problems() -> list[Problem]:
    with gzip.open(FILE, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def program(problem: Problem, body: str, nonce: str) -> str:
    """Return a program that prints a nonce if no assertion fails."""
    checks = f"{problem['test']}\ncheck({problem['entry_point']})\nprint({nonce!r})\n"
    return f"{problem['prompt']}{body}\n{checks}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda problem: problem["canonical_solution"], {"accepted": 164}),
        (lambda _: "    pass\n", {"runtime_error": 164}),
    ],
    ids=["canonical solutions", "empty bodies"],
)
async def test_all_problems(body: Callable[[Problem], str], expected: Mapping[str, int]):
    nonce = secrets.token_hex(8)
    tests = program_tests(("", nonce))
    with running_judge() as judge:
        verdicts = await asyncio.gather(
            *(judge.judge(program(one, body(one), nonce), tests) for one in problems())
        )
    counts: dict[str, int] = {}
    for verdict in verdicts:
        counts[verdict.status] = counts.get(verdict.status, 0) + 1
    assert counts == expected
