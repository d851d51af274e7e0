"""A directory of annotations: the output of `tessy annotate`, to train and test predictors on.

NAME/
  config.json          options and provenance
  annotations.jsonl    segments with their style, one :class:`~tessy.core.records.Annotation` a line
  failures.jsonl       segments that could not be annotated
  summary.json, run.lock, run.log
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tessy.core.errors import InputError, RunError
from tessy.core.records import Annotation, FailedAnnotation, SegmentKey
from tessy.storage import jsonl, run_config
from tessy.storage.run_dir import RowDirectory
from tessy.storage.run_paths import RowPaths

# Matches only the key of a row: inside JSON strings, quotation marks are escaped.
_QUESTION = re.compile(rb'"question"\s*:')


class AnnotationPaths(RowPaths):
    """Paths of the files in a directory of annotations."""

    kind = "annotations"


class AnnotationDirectory(RowDirectory[SegmentKey]):
    """A directory of annotations, locked by this process: durable rows, resumable."""

    @staticmethod
    def paths_of(directory: str | Path) -> AnnotationPaths:
        """The files of such a directory."""
        return AnnotationPaths(directory)

    @staticmethod
    def key_of(path: Path, line: jsonl.Line) -> SegmentKey:
        """Return the key of the row on ``line``.

        Raises:
            InputError: The line is not an annotation row, or lacks the key ``question``; names file
                and line.
        """
        key = jsonl.segment_key(path, line)
        if not _QUESTION.search(line.content):
            raise InputError(
                f"{path}:{line.number}: question: the row has no digest of its problem, which the "
                "split needs; create the annotations again: `tessy annotate` with the same options "
                "and --fresh"
            )
        return key


def iter_annotations(directory: str | Path) -> Iterator[Annotation]:
    """Yield the last annotation of each segment, in file order.

    Raises:
        RunError: ``directory`` is missing, is not a directory of annotations, or has another schema
            version.
        InputError: A row cannot be read; names file, line and field.
    """
    paths = AnnotationPaths(directory)
    run_config.read(paths.config, paths.kind)
    files = paths.row_files()
    places = jsonl.last_rows(files, AnnotationDirectory.key_of)
    yield from jsonl.rows_at(Annotation, files, places, AnnotationDirectory.key_of)


def read_annotations(directory: str | Path) -> list[Annotation]:
    """Return all annotated segments, sorted by problem id, sample and segment.

    Raises:
        RunError: As :func:`iter_annotations`; or there are no annotations.
        InputError: A row cannot be read; names file, line and field.
    """
    rows = sorted(iter_annotations(directory), key=lambda row: row.key)
    if not rows:
        raise RunError(
            f"{directory} has no annotated segments; let `tessy annotate` finish some first "
            "(failures.jsonl has the reasons of failed segments)"
        )
    return rows


def iter_failed_annotations(directory: str | Path) -> Iterator[FailedAnnotation]:
    """Yield the last failure of each segment without an annotation.

    Raises:
        RunError: ``directory`` is missing or not a directory of annotations.
        InputError: A row cannot be read; names file, line and field.
    """
    paths = AnnotationPaths(directory)
    run_config.read(paths.config, paths.kind)
    files, key_of = paths.failure_files(), AnnotationDirectory.key_of
    failed = jsonl.last_rows(files, key_of)
    done = jsonl.last_rows(paths.row_files(), key_of)
    places = {key: place for key, place in failed.items() if key not in done}
    yield from jsonl.rows_at(FailedAnnotation, files, places, key_of)
