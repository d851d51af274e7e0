"""Negative log-likelihood of training data under a model, by class of token.

Style that a student never uses is unlikely under it, so training on it has large gradients. Source:
arXiv 2604.14164, section 3, which counts words instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from tessy.core.records import Trajectory, problem_digest
from tessy.core.statistics import Case, Estimate, mean
from tessy.data.export.tokens import StudentFormat, tokenize
from tessy.inference.base import Engine
from tessy.tokenization.codec import HfCodec


class ClassSpan(NamedTuple):
    """A class of the characters ``thinking[start:end]``."""

    start: int
    end: int
    name: str


Classify = Callable[[Trajectory], Sequence[ClassSpan]]
"""Returns the spans of a thinking with a class, in ascending order, without overlaps."""

ALL, OTHER, ANSWER = "all", "other", "answer"


@dataclass(slots=True)
class NllCounts:
    """Sums of negative log-likelihoods (nats) and tokens by problem, for each class."""

    cases: defaultdict[str, list[Case]] = field(default_factory=lambda: defaultdict(list))

    def add(self, problem: str, name: str, nats: float) -> None:
        """Count one token."""
        for each in (name, ALL):
            self.cases[each].append(Case(problem, nats))

    def means(self) -> dict[str, Estimate]:
        """Return the mean of each class, in nats per token, clustered by problem."""
        found = {name: mean(cases) for name, cases in self.cases.items()}
        return {name: estimate for name, estimate in found.items() if estimate is not None}


async def nll_by_class(
    rows: Iterable[Trajectory], engine: Engine, form: StudentFormat, classify: Classify
) -> Mapping[str, Estimate]:
    """Return the mean negative log-likelihood (nats per token) of the responses of rows, by class.

    A token of the thinking has the class of the first character in it that is no white space;
    without a span it is :data:`OTHER`. Markup counts as :data:`OTHER`, the answer is
    :data:`ANSWER`; prompts are not counted. Raises as :meth:`Engine.score`.
    """
    counts = NllCounts()
    for row in rows:
        sample = tokenize(row, form)
        scored = await engine.score(f"{row.id}/{row.sample}", sample.ids)
        prompt = sample.authors.count(None)
        classes = token_classes(row, form.renderer.codec, sample.ids[prompt:], classify(row))
        problem = problem_digest(row.messages)
        for name, token in zip(classes, scored[prompt - 1 :], strict=True):
            counts.add(problem, name, -token.logprob)
    return counts.means()


def token_classes(
    row: Trajectory, codec: HfCodec, ids: Sequence[int], spans: Sequence[ClassSpan]
) -> list[str]:
    """Return the class of each token of a response, which may start with an opening marker."""
    pieces = codec.pieces(ids)
    text = b"".join(pieces)
    start = text.find(row.thinking.encode())
    answer = text.rfind(row.answer.encode())
    begins = [len(row.thinking[: span.start].encode()) for span in spans]
    ends = [len(row.thinking[: span.end].encode()) for span in spans]
    found = []
    for piece, offset in zip(pieces, accumulate(map(len, pieces), initial=0), strict=False):
        at = offset + len(piece) - len(piece.lstrip() or piece)
        index = bisect_right(begins, at - start) - 1
        if answer <= at < answer + len(row.answer.encode()):
            found.append(ANSWER)
        elif index >= 0 and at - start < ends[index]:
            found.append(spans[index].name)
        else:
            found.append(OTHER)
    return found
