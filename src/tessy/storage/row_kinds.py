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
class History:
    """Changes to the options of one kind of rows, by dotted name (``student.window``).

    Attributes:
        added: Options missing from the data_config of older directories, with the value that
            reproduces the behaviour before the option existed. Independent of the option's
            present default.
        renamed: Present names by former names.
    """

    added: Mapping[str, object] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowKind(Generic[KeyT, RowT, FailureT]):
    """A kind of rows.

    Attributes:
        name: Stem of the file of rows, and ``rows`` in config.json: ``trajectories``.
        failure: Model of a row of failures.jsonl.
        key_of: Returns the key of the row on a line.
        directory: Noun for a directory of them in messages: ``run``.
        made_by: Which commands create such directories, as a sentence without a full stop.
        history: Every option added to its data_config, or renamed, needs an entry here.
    """

    name: str
    row: type[RowT]
    failure: type[FailureT]
    key_of: KeyOf[KeyT]
    directory: str
    made_by: str
    history: History = field(default_factory=History)
