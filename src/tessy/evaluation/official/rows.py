"""Rows of the output files of official judges, with errors that name file, row and field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tessy.core.errors import BadRowsError, RowFault
from tessy.core.records import Key
from tessy.evaluation.official.base import OfficialVerdict
from tessy.storage.conversations import BadField, kind
from tessy.storage.tables import read_rows


def read_verdicts(
    file: Path, convert: Callable[[dict[str, Any]], OfficialVerdict]
) -> Iterator[OfficialVerdict]:
    """Yield the verdict of each row; ``convert`` raises BadField for an unusable one.

    Raises:
        InputError: The file cannot be read.
        BadRowsError: Rows are unusable, or two are about the same response.
    """
    faults: list[RowFault] = []
    seen: set[Key] = set()
    for row in read_rows(file):
        if isinstance(row, RowFault):
            faults.append(row)
            continue
        try:
            if not isinstance(row.value, dict):
                raise BadField("(row)", f"expected an object, got {kind(row.value)}")
            found = convert(row.value)
            if found.key in seen:
                name, sample = found.key
                raise BadField("(row)", f"a second verdict on sample {sample} of {name}")
        except BadField as error:
            faults.append(RowFault(str(file), row.line, error.field, str(error)))
            continue
        seen.add(found.key)
        yield found
    if faults:
        raise BadRowsError(faults, "run the official judge again on the file of `tessy judge`")


def sample_of(row: dict[str, Any]) -> int:
    """Return the index of the response among those to its problem."""
    sample = row.get("sample")
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
        raise BadField(
            "sample", f"expected the number that `tessy judge` wrote, got {sample!r:.40}"
        )
    return sample
