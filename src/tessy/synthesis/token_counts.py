"""Token counts and costs of a sample in progress, in its row, and of a whole run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tessy.core.errors import FailureReason
from tessy.core.records import AUTHORS, Author, Cost, TokenCounts
from tessy.runtime.summary import add_generated, by_author
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.shared_thinking import GeneratedResponse

# Failures at a limit; the text of other failures is shorter than that of a sample.
LONG: frozenset[FailureReason] = frozenset({"budget", "repetition"})


@dataclass
class UsageMeter:
    """Requests, tokens and time of a sample, over all of its attempts.

    ``drafted`` has the tokens generated for the thinking and for texts that the row does not keep,
    by role, each in its model's tokens. The answer in progress is counted once it is dropped.
    ``unseen`` has the tokens that were generated and not received; see :class:`Cost`.
    """

    requests: Counter[str] = field(default_factory=Counter)
    drafted: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    unseen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Copy the counts, which may be plain dicts from the journal or those of another meter."""
        self.requests, self.drafted = Counter(self.requests), Counter(self.drafted)
        self.seconds = defaultdict(float, self.seconds)
        self.unseen = Counter(self.unseen)

    def cost(self, trimmed: Mapping[Author, int]) -> Cost:
        """Return the cost for the row; ``trimmed`` tokens of its answer are not in the row."""
        return Cost(
            requests=by_author(self.requests),
            seconds={part: round(value, 4) for part, value in sorted(self.seconds.items())},
            unseen={author: self.unseen[author] + trimmed.get(author, 0) for author in AUTHORS},
        )

    def token_counts(self, response: GeneratedResponse, *, counted: bool) -> TokenCounts:
        """Return the token counts for a row of ``response``.

        ``counted`` if its answer is in ``drafted`` already, as those of other candidates are.
        """
        drafted = Counter(self.drafted)
        if counted:
            drafted[response.answer_by] -= len(response.answer_ids)
        return TokenCounts(
            **by_author(response.thinking.kept),
            answer=len(response.answer_ids),
            drafted=by_author(drafted),
        )


def tokens_of_rows(paths: RunPaths) -> int:
    """Return the tokens generated for all rows of a run, kept or not, failed attempts included."""
    return sum(sum(generated_tokens(row).values()) for row in _rows(paths))


def generated_tokens(row: Mapping[str, Any]) -> dict[Author, int]:
    """Return the tokens that each model generated for ``row`` (JSON), kept or not, in its own."""
    tokens, unseen = row["tokens"], row.get("cost", {}).get("unseen", {})  # older rows have none
    answer = row.get("answer_by", "student"), tokens["answer"]
    return add_generated(tokens["drafted"], unseen, answer, restyled=row.get("restyle") is not None)


def lengths_of_rows(paths: RunPaths) -> list[int]:
    """Return the lengths in tokens of a run's samples, without failures far below a limit."""
    return [
        sum(int(row["tokens"][part]) for part in (*AUTHORS, "answer"))
        for row in _rows(paths)
        if row.get("reason") in (None, *LONG)
    ]


def _rows(paths: RunPaths) -> Iterator[dict[str, Any]]:
    for path in (*paths.row_files(), *paths.failure_files()):
        for line in jsonl.read_lines(path):
            yield jsonl.row(path, line)
