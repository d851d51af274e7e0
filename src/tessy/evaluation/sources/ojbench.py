"""Problems of OJBench; their programs are judged by its official judge only.

A row is a problem and a language: its id in tessy is that of the problem, a hyphen and the
language. Prompt: the row's own, which is complete.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tessy.core.records import Problem
from tessy.evaluation.programs.extraction import marked_program
from tessy.evaluation.programs.task import ProgramTask
from tessy.evaluation.sources.base import AnswerSource, BenchmarkData, object_of, text_of
from tessy.storage.conversations import BadField
from tessy.storage.tables import InputRow

LANGUAGES = ("cpp", "python")
OFFICIAL = "OJBench"
ORIGINAL_ID = "ojbench_id"


class OJBench(AnswerSource):
    """The problems of a file of OJBench; their field ``ojbench_id`` is the id in the file."""

    def __init__(self, data: BenchmarkData) -> None:
        super().__init__(data, _convert)

    def program(self, problem: Problem) -> ProgramTask:
        """Return a task for the official judge."""
        extract = partial(marked_program, language=str(problem.extra["language"]))
        return ProgramTask(extract, official=OFFICIAL)


def original_id(value: object) -> int | str:
    """Return the id of a problem in OJBench's files; raises BadField if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value):
        raise BadField("id", f"expected the id of a problem, got {value!r:.40}")
    return value


def _convert(file: Path, row: InputRow) -> dict[str, Any]:
    value = dict(object_of(row))
    original = original_id(value.pop("id", None))
    language = text_of(value, "language")
    if language not in LANGUAGES:
        raise BadField("language", f"expected one of {', '.join(LANGUAGES)}, got {language!r:.40}")
    prompt = text_of(value, "prompt")
    return {
        **value, "id": f"{original}-{language}", "prompt": prompt, ORIGINAL_ID: original,
    }  # fmt: skip
