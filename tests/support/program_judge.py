"""A judge of programs for tests, which takes the verdict from the program's last word."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import get_args

import pytest

from tessy.evaluation.programs.base import ProgramStatus, ProgramTest, ProgramTests, ProgramVerdict


@dataclass
class FakeProgramJudge:
    """Accepts a program unless its last word is another status; ``raise`` is an error.

    Attributes:
        gate: Programs wait for it.
        running: Programs that are judged now.
        most: Maximum of ``running``.
        judged: Programs with their tests.
        unusable: Raised instead of any verdict.
    """

    gate: asyncio.Event | None = None
    running: int = 0
    most: int = 0
    closed: int = 0
    judged: list[tuple[str, Sequence[ProgramTest]]] = field(default_factory=list)
    version: str = "fake 7"
    unusable: Exception | None = None

    @property
    def record(self) -> Mapping[str, object]:
        """What scores.json states."""
        return {"name": self.version}

    async def judge(self, code: str, tests: ProgramTests) -> ProgramVerdict:
        """Return the verdict that the program names."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(0)
            self.judged.append((code, tests.load()))
            if self.unusable is not None:
                raise self.unusable
        finally:
            self.running -= 1
        word = code.split()[-1]
        if word == "raise":
            raise ZeroDivisionError("of the judge")
        status: ProgramStatus = word if word in get_args(ProgramStatus) else "accepted"  # type: ignore[assignment]
        return ProgramVerdict(status, None if status == "accepted" else 1, "expected 42")

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1


def as_module(judge: FakeProgramJudge | Exception) -> tuple[ModuleType, list[dict[str, object]]]:
    """Return the module that opens this judge, or raises, and the options it is opened with."""
    opened: list[dict[str, object]] = []

    def open_judge(**options: object) -> FakeProgramJudge:
        opened.append(options)
        if isinstance(judge, Exception):
            raise judge
        return judge

    module = ModuleType("tessy.evaluation.programs.judge")
    module.open_judge = open_judge  # type: ignore[attr-defined]
    return module, opened


def install(
    monkeypatch: pytest.MonkeyPatch, judge: FakeProgramJudge | Exception
) -> list[dict[str, object]]:
    """Let ``tessy evaluate`` open this judge; return the options it is opened with."""
    module, opened = as_module(judge)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return opened
