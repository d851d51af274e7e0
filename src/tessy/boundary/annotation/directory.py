"""A directory of annotations: the output of `tessy annotate`, to train and test predictors on.

NAME/
  config.json          options and provenance
  annotations.jsonl    segments with their style, one :class:`~tessy.core.records.Annotation` a line
  failures.jsonl       segments that could not be annotated
  summary.json, run.lock, run.log
"""

from __future__ import annotations

import re
from pathlib import Path

from tessy.core.errors import InputError, RunError
from tessy.core.records import Annotation, FailedAnnotation, SegmentKey
from tessy.storage import jsonl
from tessy.storage.run_config import RowKind
from tessy.storage.run_reader import iter_rows

# Matches only the key of a row: inside JSON strings, quotation marks are escaped.
_QUESTION = re.compile(rb'"question"\s*:')


def _key_of(path: Path, line: jsonl.Line) -> SegmentKey:
    key = jsonl.segment_key(path, line)
    if not _QUESTION.search(line.content):
        raise InputError(
            f"{path}:{line.number}: question: the row has no digest of its problem, which the "
            "split needs; create the annotations again: `tessy annotate` with the same options "
            "and --fresh"
        )
    return key


ANNOTATIONS = RowKind(
    name="annotations",
    row=Annotation,
    failure=FailedAnnotation,
    key_of=_key_of,
    directory="directory of annotations",
    made_by="`tessy annotate` makes one from a run of responses",
)


def read_annotations(directory: str | Path) -> list[Annotation]:
    """Return all annotated segments, sorted by problem id, sample and segment.

    Raises:
        RunError: ``directory`` is missing, is not a directory of annotations, or has none.
        InputError: A row cannot be read; names file, line and field.
    """
    rows = sorted(iter_rows(directory, ANNOTATIONS), key=lambda row: row.key)
    if not rows:
        raise RunError(
            f"{directory} has no annotated segments; let `tessy annotate` finish some first "
            "(failures.jsonl has the reasons of failed segments)"
        )
    return rows
