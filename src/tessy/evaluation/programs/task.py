"""Problems whose answer is a program: how it is extracted, and which tests judge it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessy.evaluation.programs.base import ProgramTests

VERSION = "1"  # changes whenever another program may be found in a response


@dataclass(frozen=True, slots=True)
class ProgramTask:
    """How the responses to a problem are judged.

    Attributes:
        extract: Returns the program in an answer; None without one.
        tests: Tests of the problem; None if only the official judge of the benchmark decides.
        official: Name of that judge.
        digest: Identifies the tests; empty without tests.
    """

    extract: Callable[[str], str | None]
    tests: ProgramTests | None = None
    official: str = ""
    digest: str = ""

    def title(self, judge: str) -> str:
        """Return name and version of the deciding judge, given that of the program judge."""
        if self.tests is None:
            return f"official {VERSION} ({self.official})"
        kind = "testlib" if self.tests.kind == "checker" else "tests"
        return f"{kind} {VERSION} ({judge})"
