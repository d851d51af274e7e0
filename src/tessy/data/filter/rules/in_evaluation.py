"""``in_evaluation``: the problem resembles a problem of an evaluation set.

An evaluation problem of 100 words takes about 20 kB of memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tessy.config.data import FilterConfig
from tessy.core.errors import BadRowsError, ConfigError
from tessy.core.formatting import percent
from tessy.data.filter.rule import FilterRule, RowCheck, problem_text
from tessy.data.filter.words import grams, words
from tessy.storage.problems import load_problems

GRAM_WORDS = 5
# Variants of one problem share more than half of their 5-grams; problems on the same subject share
# fewer than 0.4.
SHARE = 0.5
FEWEST_GRAMS = 8  # shorter problems must match exactly
_COMMON = 10  # 5-grams in more problems are phrases ("Read the inputs from stdin"), and ignored


class EvaluationProblems:
    """Problems of evaluation sets, indexed to find those that resemble another problem."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        """Index names and texts of problems; equal texts are indexed once."""
        self._names: list[str] = []
        self._texts: dict[str, int] = {}
        self._found_in: defaultdict[str, list[int]] = defaultdict(list)
        for name, text in problems:
            own_words = words(text)
            normalized = " ".join(own_words)
            if not own_words or normalized in self._texts:
                continue
            at = self._texts[normalized] = len(self._names)
            self._names.append(name)
            for gram in grams(own_words, GRAM_WORDS):
                self._found_in[gram].append(at)
        self._common = {gram for gram, at in self._found_in.items() if len(at) > _COMMON}
        for gram in self._common:
            del self._found_in[gram]
        self._sizes = Counter(at for found in self._found_in.values() for at in found)

    @classmethod
    def load(cls, files: Sequence[Path], fields: Mapping[str, str]) -> EvaluationProblems:
        """Load problems with :func:`tessy.storage.problems.load_problems`; may raise InputError."""
        return cls(problem for file in files for problem in _read(file, fields))

    def find(self, problem: str) -> str | None:
        """Return the evaluation problem that ``problem`` resembles, and how much; None if none.

        Two problems are similar if at least half of the 5-grams of the shorter one, common phrases
        excluded, occur in the other. This also finds a problem inside a longer prompt, or with a
        few words or numbers changed.
        """
        own_words = words(problem)
        same = self._texts.get(" ".join(own_words))
        if same is not None:
            return f"the same words as {self._names[same]}"
        own = grams(own_words, GRAM_WORDS) - self._common
        shared = Counter(at for gram in own for at in self._found_in.get(gram, ()))
        sizes = {at: min(len(own), self._sizes[at]) for at in shared}
        shares = [(shared[at] / size, -at) for at, size in sizes.items() if size >= FEWEST_GRAMS]
        share, at = max(shares, default=(0.0, 0))
        if share < SHARE:
            return None
        name = self._names[-at]
        return f"{percent(share, 0)} of the word {GRAM_WORDS}-grams are shared with {name}"


def _read(file: Path, fields: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    try:
        loaded = load_problems(file, fields=fields, likely_prompts=True)
    except BadRowsError as error:
        remedy = "fix them, or map the fields of this file with --fields"
        raise BadRowsError(error.faults, remedy) from None
    for problem, place in zip(loaded.problems, loaded.places, strict=True):
        yield f"{problem.id!r} ({place})", problem_text(problem.messages)


def _prepare(options: FilterConfig) -> RowCheck:
    evaluation_problems = EvaluationProblems.load(options.against, options.fields)
    return RowCheck(lambda row: evaluation_problems.find(problem_text(row.messages)))


def _check_options(options: FilterConfig, applies: bool) -> None:
    if options.fields and not options.against:
        raise ConfigError("--fields: has no effect without --against")


RULE = FilterRule(
    name="in_evaluation",
    position=80,
    finds="the problem resembles one in the files of --against",
    prepare=_prepare,
    applies=lambda options: bool(options.against),
    check_options=_check_options,
)
