"""Kinds of rows: what a run directory holds, and how its rows are read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from tessy.storage.jsonl import KeyOf

KeyT = TypeVar("KeyT", bound=Hashable)
RowT = TypeVar("RowT", bound=BaseModel)
FailureT = TypeVar("FailureT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class RowKind(Generic[KeyT, RowT, FailureT]):
    """A kind of rows.

    Attributes:
        name: Stem of the file of rows, and ``rows`` in config.json: ``trajectories``.
        failure: Model of a row of failures.jsonl.
        key_of: Returns the key of the row on a line.
        directory: Noun for a directory of them in messages: ``run``.
        made_by: Which commands create such directories, as a sentence without a full stop.
        added: Options missing from the data_config of older directories, by dotted name
            (``student.window``), with the value that reproduces the behaviour before the option
            existed. Independent of the option's present default.
        renamed: Present names of options by former names.
    """

    name: str
    row: type[RowT]
    failure: type[FailureT]
    key_of: KeyOf[KeyT]
    directory: str
    made_by: str
    added: Mapping[str, object] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
