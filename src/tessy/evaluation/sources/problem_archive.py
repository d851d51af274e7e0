"""Tests of a problem of LiveCodeBench-Pro: ``<problem_id>.zip``, read without unpacking it.

The archive holds ``config.yaml``, ``testdata/`` and the C++ source of a testlib checker.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import yaml  # type: ignore[import-untyped]  # ships no types

from tessy.core.errors import InputError
from tessy.evaluation.programs.base import ProgramTest, ProgramTests
from tessy.evaluation.programs.cpp import cache_folder
from tessy.storage.atomic import new_file

_CONFIG = "config.yaml"
_TESTS = "testdata"
# Limits of decompression, against archives that expand without end.
_MAX_BYTES = 4 << 30  # of all files of an archive
_MAX_RATIO = 2000  # of a file, above _ALWAYS_ALLOWED_BYTES; a file of spaces has about 1,000
_ALWAYS_ALLOWED_BYTES = 64 << 20
_MAX_CHECKER_BYTES = 4 << 20
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", re.IGNORECASE)
_MIB = {"": 1 / (1 << 20), "k": 1 / 1024, "m": 1.0, "g": 1024.0}


@dataclass(frozen=True, slots=True)
class ProblemArchive:
    """The checked description of an archive.

    Attributes:
        path: The archive.
        interactive: Whether the problem needs an interactor, which only the official judge runs.
        cases: Names of input and expected output of each test.
        checker: Name of the checker's source.
        seconds: CPU time limit of a test.
        memory_mib: Memory limit in MiB.
        digest: Identifies the content of all files.
    """

    path: Path
    interactive: bool
    cases: tuple[tuple[str, str], ...]
    checker: str
    seconds: float
    memory_mib: int
    digest: str

    def tests(self) -> ProgramTests:
        """Return the tests, which are read from the archive when they are needed."""
        return ProgramTests(
            language="cpp",
            kind="checker",
            load=partial(_load, self.path, self.cases),
            checker=_checker_file(self.path, self.checker),
            seconds=self.seconds,
            memory_mib=self.memory_mib,
        )


def open_archive(path: Path) -> ProblemArchive:
    """Read the description of the tests; InputError names the archive and what is wrong."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            try:
                config = yaml.safe_load(archive.read(_CONFIG))
            except KeyError:
                raise _bad(path, f"has no {_CONFIG}") from None
            except yaml.YAMLError as error:
                raise _bad(path, f"{_CONFIG} is not YAML: {' '.join(str(error).split())}") from None
            if not isinstance(config, dict):
                raise _bad(path, f"{_CONFIG} is not a mapping")
            return _described(path, archive, config)
    except (OSError, zipfile.BadZipFile) as error:
        raise _bad(path, f"cannot be read: {error}") from error


def _described(path: Path, archive: zipfile.ZipFile, config: Mapping[str, Any]) -> ProblemArchive:
    kind = config.get("type") or "default"
    if kind not in ("default", "interactive"):
        raise _bad(path, f"{_CONFIG}: type: expected default or interactive, got {kind!r:.40}")
    names = set(archive.namelist())
    cases = () if kind == "interactive" else tuple(_cases(path, config, names))
    if kind == "default" and not cases:
        raise _bad(path, "has no tests: every program would be accepted")
    checker = str(config.get("checker") or "chk.cc")
    if kind == "default" and checker not in names:
        raise _bad(path, f"{_CONFIG}: checker: there is no file {checker!r:.60}")
    content = sorted((info.filename, info.CRC, info.file_size) for info in archive.infolist())
    return ProblemArchive(
        path=path,
        interactive=kind == "interactive",
        cases=cases,
        checker=checker,
        seconds=_seconds(path, config.get("time_limit", config.get("time", "1s"))),
        memory_mib=_mib(path, config.get("memory_limit", config.get("memory", "256m"))),
        digest=hashlib.sha256(repr(content).encode()).hexdigest(),
    )


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse paths outside the archive's folder, and decompression bombs."""
    total = 0
    for info in archive.infolist():
        name = PurePosixPath(info.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in info.filename:
            raise _bad(path, f"holds a file outside of its folder: {info.filename!r:.80}")
        total += info.file_size
        if info.file_size > max(_ALWAYS_ALLOWED_BYTES, _MAX_RATIO * info.compress_size):
            raise _bad(path, f"{info.filename} expands to {info.file_size:,} bytes")
    if total > _MAX_BYTES:
        raise _bad(path, f"expands to {total:,} bytes; at most {_MAX_BYTES:,} are read")


def _cases(path: Path, config: Mapping[str, Any], names: set[str]) -> Iterator[tuple[str, str]]:
    subtasks = config.get("subtasks")
    if not isinstance(subtasks, list):
        raise _bad(path, f"{_CONFIG}: subtasks: expected a list")
    prefixes = [str(config.get(f"{side}_prefix") or "") for side in ("input", "output")]
    suffixes = [
        str(config.get(f"{side}_suffix") or usual)
        for side, usual in (("input", ".in"), ("output", ".ans"))
    ]
    number = 0
    for subtask in subtasks:
        listed = subtask.get("cases") if isinstance(subtask, dict) else None
        count = subtask.get("n_cases") if isinstance(subtask, dict) else None
        if isinstance(count, int):
            pairs = []
            for _ in range(count):
                number += 1
                pairs.append([f"{p}{number}{s}" for p, s in zip(prefixes, suffixes, strict=True)])
        elif isinstance(listed, list) and all(isinstance(case, dict) for case in listed):
            pairs = [[str(case.get("input")), str(case.get("output"))] for case in listed]
        else:
            raise _bad(path, f"{_CONFIG}: subtasks: expected n_cases or cases")
        for given, expected in pairs:
            yield _member(path, given, names), _expected(path, expected, names)


def _member(path: Path, name: str, names: set[str]) -> str:
    full = f"{_TESTS}/{name}"
    if full not in names:
        raise _bad(path, f"lacks the file {full!r:.80}")
    return full


def _expected(path: Path, name: str, names: set[str]) -> str:
    answers = re.sub(r"\.out$", ".ans", name)  # as the official judge does
    return _member(path, answers if f"{_TESTS}/{answers}" in names else name, names)


def _seconds(path: Path, value: object) -> float:
    match = _DURATION.fullmatch(str(value).strip())
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else 0.0
    if not seconds:
        raise _bad(path, f"{_CONFIG}: time_limit: expected a time such as 500ms, got {value!r:.40}")
    return seconds


def _mib(path: Path, value: object) -> int:
    match = _SIZE.fullmatch(str(value).strip())
    size = float(match[1]) * _MIB[match[2].lower()] if match else 0.0
    if size < 1:
        raise _bad(path, f"{_CONFIG}: memory_limit: expected a size like 256m, got {value!r:.40}")
    return round(size)


def _load(path: Path, cases: tuple[tuple[str, str], ...]) -> list[ProgramTest]:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            return [ProgramTest(*(_text(archive, name) for name in case)) for case in cases]
    except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise _bad(path, f"cannot be read any more: {error}") from error


def _text(archive: zipfile.ZipFile, name: str) -> str:
    # zipfile never returns more bytes than the directory states, which was checked.
    return archive.read(name).decode("utf-8")


def _checker_file(path: Path, name: str) -> Path:
    """Return the checker's source as a file in the user's cache, where it can be compiled."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(name).file_size > _MAX_CHECKER_BYTES:
            raise _bad(path, f"{name} is too large for a checker")
        source = archive.read(name)
    file = cache_folder() / "checkers" / f"{hashlib.sha256(source).hexdigest()}.cpp"
    if not file.exists():
        with new_file(file, "set XDG_CACHE_HOME to a folder that can be written") as partial:
            partial.write_bytes(source)
    return file


def _bad(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}; download the archive again")
