"""Cost of the samples of a run, read from its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tessy.core.records import AUTHORS, Author, Key
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths


@dataclass(frozen=True, slots=True)
class PilotSample:
    """An ended sample.

    Attributes:
        key: Key of the sample.
        reason: Reason of a failure; None if the sample is finished.
        seconds: Wall-clock seconds over all attempts.
        requests: Requests sent, by role.
        kept: Tokens in the training data, by part (``student`` and ``teacher`` of the thinking,
            ``answer``), in the student's tokens; 0 for a failure.
        generated: Tokens of thinking and answer, kept or not, by author.
        size: Bytes of the row.
    """

    key: Key
    reason: str | None
    seconds: float
    requests: Mapping[Author, int]
    kept: Mapping[str, int]
    generated: Mapping[Author, int]
    size: int

    @property
    def question(self) -> str:
        """Id of the problem."""
        return self.key[0]


def read_pilot_samples(paths: RunPaths, keys: Collection[Key]) -> list[PilotSample]:
    """Return the last row of each key in ``keys``; a finished row has precedence over a failure.

    Raises:
        InputError: A row is invalid; names file and line.
    """
    found: dict[Key, PilotSample] = {}
    for made in _read(paths):
        before = found.get(made.key)
        if made.key in keys and (before is None or before.reason or not made.reason):
            found[made.key] = made
    return list(found.values())


def _read(paths: RunPaths) -> Iterator[PilotSample]:
    for path in (*paths.row_files(), *paths.failure_files()):
        for line in jsonl.read_lines(path):
            key = jsonl.row_key(path, line)
            yield _made(key, jsonl.row(path, line), len(line.content))


def _made(key: Key, row: Mapping[str, Any], size: int) -> PilotSample:
    tokens, reason = row["tokens"], row.get("reason")
    parts = {part: int(tokens[part]) for part in (*AUTHORS, "answer")}
    generated: dict[Author, int] = {author: tokens["drafted"][author] for author in AUTHORS}
    answer_by: Author = row.get("answer_by", "student")
    generated[answer_by] += parts["answer"]
    return PilotSample(
        key=key,
        reason=reason,
        seconds=row["seconds"],
        requests=row["cost"]["requests"],
        kept=dict.fromkeys(parts, 0) if reason else parts,
        generated=generated,
        size=size,
    )
