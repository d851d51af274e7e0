"""Problems of LiveCodeBench (``code_generation_lite``), whose lines can exceed 100 MB.

Tests are not kept in memory: they are read again, at the offset of their line, while a response is
judged.

Prompt: OpenCompass (``livecodebench``), as in the paper.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tessy.core.errors import InputError
from tessy.core.records import Problem
from tessy.evaluation.programs.base import ProgramTest, ProgramTests
from tessy.evaluation.programs.extraction import python_program
from tessy.evaluation.programs.task import ProgramTask
from tessy.evaluation.sources.base import (
    BenchmarkData,
    HubFile,
    Row,
    converted,
    object_of,
    text_of,
)
from tessy.evaluation.sources.private_tests import (
    BadTestsError,
    decode_private_tests,
    parse_tests,
)
from tessy.storage.conversations import BadField
from tessy.storage.jsonl import loads
from tessy.storage.tables import InputRow, read_row

_WITH_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your "
    "code within delimiters."
)
_WITHOUT_STARTER = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly "
    "test on the sample inputs). Enclose your code within delimiters as follows."
)
_KEPT = ("question_title", "platform", "contest_id", "contest_date", "difficulty")
_PUBLIC, _PRIVATE = "public_test_cases", "private_test_cases"

# Errata of LiveCodeBench; it lists some more problems of LeetCode without their ids.
_SEVERAL = "several answers are correct, but the tests accept one"
_INTERACTIVE = "interactive, but judged by fixed tests"
_WRONG = "some tests are wrong"
ERRATA: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "abc311_c", "abc326_d", "abc327_b", "abc333_e", "abc343_a", "abc343_e", "abc362_c",
            "arc185_c",
        ),
        _SEVERAL,
    ),
    **dict.fromkeys(("abc337_e", "abc355_e"), _INTERACTIVE),
    **dict.fromkeys(("abc350_c", "arc189_a"), _WRONG),
}  # fmt: skip


def make_prompt(content: str, starter: str) -> str:
    """Return the prompt of a problem from its statement and starter code ("" without any)."""
    how = _WITH_STARTER if starter else _WITHOUT_STARTER
    return (
        f"### Question:\n{content}\n\n### Format: {how}\n```python\n"
        f"{starter or '# YOUR CODE HERE'}\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )


# SHA-256 of test.jsonl, test2.jsonl …, or its first digits.
_CHECKSUMS = (
    "2bd02b38",
    "095df7c5",
    "28ed26cc",
    "d711138d",
    "7f77571c2a6df0c2a72a3277650309f67e01e0008e18117e624633df53f81214",
    "bb4c364f71921c4495a6ad15abe1a927350b720009f4933e2e71f8af0f6fd1f5",
)


def release_file(release: int) -> HubFile:
    """Return the file with the problems that a release, from 1 to 6, added."""
    return HubFile(
        "livecodebench/code_generation_lite",
        "0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
        f"test{release if release > 1 else ''}.jsonl",
        _CHECKSUMS[release - 1],
    )


class _TestsLocation(NamedTuple):
    """Where the tests of a problem are, and how they are run."""

    file: Path
    line: int
    offset: int | None
    function: str | None
    digest: str


class LiveCodeBench:
    """The problems of some files, optionally those of contests in a period (both ends included)."""

    def __init__(
        self, data: BenchmarkData, period: tuple[datetime.date, datetime.date] | None = None
    ) -> None:
        self._known = data.known
        self._period = period
        self._places: dict[str, _TestsLocation] = {}

    def rows(self, file: Path) -> Iterator[Row]:
        """Yield the problems of a file without their tests, which are checked."""
        yield from converted(file, self._convert)

    def _convert(self, file: Path, row: InputRow) -> dict[str, Any] | None:
        value = object_of(row)
        if self._period is not None and not self._period[0] <= _date(value) <= self._period[1]:
            return None
        name = text_of(value, "question_id")
        if name in self._places:
            raise BadField("question_id", f"expected unique ids, got {name!r} again")
        starter = text_of(value, "starter_code", empty=True) if value.get("starter_code") else ""
        prompt = make_prompt(text_of(value, "question_content"), starter)
        # Decoding is slow, and a file with the published checksum is known to be valid.
        _check_tests(value, deep=file not in self._known)
        function, digest = _function(value), _digest(value)
        self._places[name] = _TestsLocation(file, row.line, row.offset, function, digest)
        kept = {field: value[field] for field in _KEPT if value.get(field) is not None}
        errata = {"errata": ERRATA[name]} if name in ERRATA else {}
        return {"id": name, "prompt": prompt, **kept, **errata}

    def program(self, problem: Problem) -> ProgramTask:
        """Return the tests of a problem, which are read when they are needed."""
        place = self._places[problem.id]
        tests = ProgramTests(
            language="python",
            kind="functional" if place.function else "stdin",
            load=partial(_load, place),
            function=place.function,
        )
        return ProgramTask(python_program, tests, digest=place.digest)


def _date(value: Mapping[str, Any]) -> datetime.date:
    text = text_of(value, "contest_date")
    try:
        return datetime.datetime.fromisoformat(text).date()
    except ValueError:
        raise BadField("contest_date", f"expected a date, got {text[:40]!r}") from None


def _function(value: Mapping[str, Any]) -> str | None:
    """Return the name of the method that the tests call; None if they run the whole program."""
    metadata = value.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = loads(metadata)
        except ValueError:
            raise BadField("metadata", "expected a JSON object") from None
    name = metadata.get("func_name") if isinstance(metadata, dict) else None
    if name is not None and not (isinstance(name, str) and name.isidentifier()):
        raise BadField("metadata", f"expected the name of a function, got {name!r:.40}")
    return name


def _check_tests(value: Mapping[str, Any], *, deep: bool) -> None:
    private = text_of(value, _PRIVATE)
    count = len(_parsed(_PUBLIC, text_of(value, _PUBLIC), parse_tests))
    if deep or not count:
        count += len(_parsed(_PRIVATE, private, decode_private_tests))
    if not count:
        raise BadField(_PRIVATE, "expected tests, got none: every program would be accepted")


def _parsed(field: str, text: str, parse: Callable[[str], list[ProgramTest]]) -> list[ProgramTest]:
    try:
        return parse(text)
    except BadTestsError as error:
        raise BadField(field, str(error)) from None


def _digest(value: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for field in (_PUBLIC, _PRIVATE):
        digest.update(f"{value[field]}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _load(place: _TestsLocation) -> list[ProgramTest]:
    """Return the tests of a problem; InputError if the file has changed or they are unusable."""
    where = f"{place.file}:{place.line}"
    value = read_row(place.file, place.line, place.offset)
    if not isinstance(value, dict) or not {_PUBLIC, _PRIVATE} <= value.keys():
        raise InputError(f"{where}: has no tests any more; restore the file")
    if _digest(value) != place.digest:
        raise InputError(f"{where}: the tests have changed since the start; restore the file")
    try:
        public = _parsed(_PUBLIC, value[_PUBLIC], parse_tests)
        return public + _parsed(_PRIVATE, value[_PRIVATE], decode_private_tests)
    except BadField as error:
        raise InputError(f"{where}: {error.field}: {error}") from None
