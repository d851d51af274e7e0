"""Problems of LiveCodeBench-Pro, with a testlib checker each.

Rows are those of the data set, or OpenCompass' ``{"id_ddm": …, "dialogs": [{"content": …}]}``,
whose content is the whole prompt. The tests of a problem are in ``<problem_id>.zip``; a problem
without an archive is left out, as in the official score. Interactive problems are left to the
official judge, and so are all problems if there is no archive at all.

Prompt: the toolkit of LiveCodeBench-Pro, without the white space around its first paragraph.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tessy.core.errors import InputError
from tessy.core.records import Problem
from tessy.evaluation.programs.extraction import cpp_program
from tessy.evaluation.programs.task import ProgramTask
from tessy.evaluation.sources.base import BenchmarkData, Row, converted, object_of, text_of
from tessy.evaluation.sources.problem_archive import ProblemArchive, open_archive
from tessy.storage.conversations import BadField
from tessy.storage.sources import download_folder
from tessy.storage.tables import InputRow

OFFICIAL = "LightCPVerifier"
TESTS_DATASET = "QAQAQAQAQ/LiveCodeBench-Pro-Testcase"
TESTS_REVISION = "5257736c0a4e30ba0949d41c56a257c323d9c600"
_KEPT = ("problem_title", "difficulty", "platform", "link")
_TASK = (
    "You are a competitive programmer. You will be given a problem statement, please implement "
    "solution in C++. The execution time and memory limit are also stated in the statement so be "
    "aware of the complexity of the program. Please wrap the code in ```cpp and ``` so that it is "
    "properly formatted."
)


def make_prompt(statement: str) -> str:
    """Return the prompt of a problem."""
    return f"{_TASK}\n\n{statement}"


class LiveCodeBenchPro:
    """The problems of some files, each once, and the archives beside them."""

    def __init__(self, data: BenchmarkData) -> None:
        if data.from_hub:
            found = _download().rglob("*.zip")
        elif data.folder is not None:
            found = data.folder.rglob("*.zip")
        else:
            found = data.files[0].parent.glob("*.zip")
        self._archives = {path.stem: path for path in sorted(found)}
        self._opened: dict[str, ProblemArchive] = {}
        self._seen: set[str] = set()

    def rows(self, file: Path) -> Iterator[Row]:
        """Yield the problems that have an archive."""
        yield from converted(file, self._convert)

    def _convert(self, file: Path, row: InputRow) -> dict[str, Any] | None:
        value = object_of(row)
        field = "id_ddm" if "id_ddm" in value else "problem_id"
        name = text_of(value, field)
        if name in self._seen or (self._archives and name not in self._archives):
            return None
        self._seen.add(name)
        prompt = _whole_prompt(value) if field == "id_ddm" else None
        if prompt is None:
            prompt = make_prompt(text_of(value, "problem_statement"))
        if self._archives:
            try:
                self._opened[name] = open_archive(self._archives[name])
            except InputError as error:
                raise BadField(field, str(error)) from error
        kept = {key: value[key] for key in _KEPT if value.get(key) is not None}
        return {"id": name, "prompt": prompt, **kept}

    def program(self, problem: Problem) -> ProgramTask:
        """Return the tests of a problem, or a task for the official judge."""
        archive = self._opened.get(problem.id)
        if archive is None or archive.interactive:
            return ProgramTask(cpp_program, official=OFFICIAL)
        return ProgramTask(cpp_program, archive.tests(), digest=archive.digest)


def _download() -> Path:
    try:
        return download_folder(TESTS_DATASET, TESTS_REVISION, "*.zip")
    except InputError as error:
        raise InputError(f"{error}; pass a folder of files and archives with --data") from error


def _whole_prompt(value: dict[str, Any]) -> str:
    dialogs = value.get("dialogs")
    if not (isinstance(dialogs, list) and len(dialogs) == 1 and isinstance(dialogs[0], dict)):
        raise BadField("dialogs", "expected a list with one turn")
    try:
        return text_of(dialogs[0], "content")
    except BadField as error:
        raise BadField("dialogs.content", str(error)) from None
