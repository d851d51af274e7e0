"""Problems of evaluation sets, and whether another problem resembles one of them.

An index from runs of 5 words to the problems they stand in; nothing is estimated. Runs that
stand in more than 10 problems are a set's usual phrases ("Read the inputs from stdin …") and say
nothing. Memory holds the runs of all evaluation problems, about 20 kB for one of 100 words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tessy.core.errors import BadRowsError
from tessy.core.formatting import percent
from tessy.core.records import Message
from tessy.data.filter.words import grams, words
from tessy.storage.problems import load_problems

GRAM_WORDS = 5
# Of GSM8K's 1,319 test problems 4 share as much with another one, of HumanEval's 164 there are 6:
# all variants of one problem. What merely has the same subject stays below 0.4.
SHARE = 0.5
FEWEST_GRAMS = 8  # of the shorter problem; one with fewer is only found where it is the same
_USUAL = 10


class EvaluationQuestions:
    """Finds the evaluation problem that another problem resembles."""

    def __init__(self, questions: Iterable[tuple[str, str]]) -> None:
        """Read name and text of each problem; the same text counts once."""
        self._names: list[str] = []
        self._whole: dict[str, int] = {}
        self._found_in: defaultdict[str, list[int]] = defaultdict(list)
        for name, text in questions:
            said = words(text)
            whole = " ".join(said)
            if not said or whole in self._whole:
                continue
            at = self._whole[whole] = len(self._names)
            self._names.append(name)
            for gram in grams(said, GRAM_WORDS):
                self._found_in[gram].append(at)
        self._usual = {gram for gram, at in self._found_in.items() if len(at) > _USUAL}
        for gram in self._usual:
            del self._found_in[gram]
        self._sizes = Counter(at for found in self._found_in.values() for at in found)

    @classmethod
    def load(cls, files: Sequence[Path], fields: Mapping[str, str]) -> EvaluationQuestions:
        """The problems of ``files``, read as :func:`tessy.storage.problems.load_problems` does.

        Raises:
            InputError: A file cannot be read, or has an unusable row.
        """
        return cls(question for file in files for question in _read(file, fields))

    def __len__(self) -> int:
        """Different problems."""
        return len(self._names)

    def find(self, question: str) -> str | None:
        """Which evaluation problem ``question`` resembles, and how much; None if there is none.

        Two problems resemble each other if at least half of the runs of 5 words of the shorter
        one, usual ones left out, stand in the other. So a problem is found in a longer prompt,
        and with a few words or numbers changed.
        """
        said = words(question)
        same = self._whole.get(" ".join(said))
        if same is not None:
            return f"the same words as {self._names[same]}"
        own = grams(said, GRAM_WORDS) - self._usual
        shared = Counter(at for gram in own for at in self._found_in.get(gram, ()))
        best: tuple[float, int] | None = None
        for at, count in shared.items():
            shorter = min(len(own), self._sizes[at])
            if shorter >= FEWEST_GRAMS and count / shorter >= SHARE:
                best = max(best or (0.0, 0), (count / shorter, -at))
        if best is None:
            return None
        share, at = best[0], -best[1]
        return (
            f"{percent(share, 0)} of the {GRAM_WORDS}-word runs are shared with {self._names[at]}"
        )


def _read(file: Path, fields: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    try:
        loaded = load_problems(file, fields=fields)
    except BadRowsError as error:
        remedy = "fix them, or name the fields of this file with --fields"
        raise BadRowsError(error.faults, remedy) from None
    for problem, line in zip(loaded.problems, loaded.lines, strict=True):
        yield f"{problem.id!r} ({file}:{line})", question_text(problem.messages)


def question_text(messages: Sequence[Message]) -> str:
    """Return the user turns of a conversation, joined by newlines."""
    return "\n\n".join(turn.content for turn in messages if turn.role == "user")
