"""A directory of annotations: what `tessy annotate` writes and what trains and tests predictors.

NAME/
  config.json          how it was made
  annotations.jsonl    segments with their style, one :class:`~tessy.core.records.Annotation` a line
  failures.jsonl       a log of segments that could not be annotated
  summary.json, run.lock, run.log
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tessy.core.errors import InputError, RunError
from tessy.core.records import Annotation, FailedAnnotation, SegmentKey
from tessy.storage import jsonl, run_config
from tessy.storage.run_dir import RowDirectory, RowPaths

# A name in a row: inside its texts every quotation mark has a backslash.
_QUESTION = re.compile(rb'"question"\s*:')


class AnnotationPaths(RowPaths):
    """Where the files of a directory of annotations lie."""

    kind = "annotations"


class AnnotationDirectory(RowDirectory[SegmentKey]):
    """Annotations held by this process: durable rows, resume, one owner."""

    @staticmethod
    def place(directory: str | Path) -> AnnotationPaths:
        """The files of such a directory."""
        return AnnotationPaths(directory)

    @staticmethod
    def key_of(path: Path, line: jsonl.Line) -> SegmentKey:
        """The key of the row on ``line``.

        Raises:
            InputError: The line is no row of ours, or does not tell its question; names file and
                line.
        """
        key = jsonl.segment_key(path, line)
        if not _QUESTION.search(line.content):
            raise InputError(
                f"{path}:{line.number}: question: the row does not say which question it is of, "
                "and the split needs it; make the annotations anew: `tessy annotate` with the same "
                "options and --fresh"
            )
        return key


def iter_annotations(directory: str | Path) -> Iterator[Annotation]:
    """The last annotation of each segment, one at a time, in file order.

    Raises:
        RunError: There are no annotations in ``directory``: it is missing, it is a run of
            responses, or it is of another schema version.
        InputError: A row cannot be read; names file, line and field.
    """
    paths = AnnotationPaths(directory)
    run_config.read(paths.config, paths.kind)
    files = paths.row_files()
    places = jsonl.last_rows(files, AnnotationDirectory.key_of)
    yield from jsonl.rows_at(Annotation, files, places, AnnotationDirectory.key_of)


def read_annotations(directory: str | Path) -> list[Annotation]:
    """Every annotated segment, sorted by question id, sample and segment.

    Raises:
        RunError: As :func:`iter_annotations`; or no segment was accepted.
        InputError: A row cannot be read; names file, line and field.
    """
    rows = sorted(iter_annotations(directory), key=lambda row: row.key)
    if not rows:
        raise RunError(
            f"{directory} holds no annotated segment; let `tessy annotate` finish some first "
            "(failures.jsonl there says why segments failed)"
        )
    return rows


def iter_failed_annotations(directory: str | Path) -> Iterator[FailedAnnotation]:
    """The last failure of each segment that has no annotation.

    Raises:
        RunError: There are no annotations in ``directory``.
        InputError: A row cannot be read; names file, line and field.
    """
    paths = AnnotationPaths(directory)
    run_config.read(paths.config, paths.kind)
    files, key_of = paths.failure_files(), AnnotationDirectory.key_of
    failed = jsonl.last_rows(files, key_of)
    done = jsonl.last_rows(paths.row_files(), key_of)
    places = {key: place for key, place in failed.items() if key not in done}
    yield from jsonl.rows_at(FailedAnnotation, files, places, key_of)
