"""Samples as token ids of the student, each with its author (pure).

    prompt | opening marker | thinking | closing marker | answer | end of turn

The sequence equals that of the synthesis: the last unit of the thinking is encoded together with
the closing marker, as in the prompt of the answer. Prompt tokens have no author and never have
labels. Authors of the thinking come from the spans, the author of the answer from ``answer_by``.
Markup that the model must generate is the student's: an opening marker that the chat template does
not add, the closing marker and the end of the turn.

A token that spans two authors belongs to the author of its first character, who chose the token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tessy.core.edges import last_unit
from tessy.core.errors import InputError, ModelError
from tessy.core.records import Author, Trajectory, unpack_ids
from tessy.data.export.loss import Weights
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.renderer import Renderer
from tessy.tokenization.token_ids import split_tail

IGNORED = -100  # label of tokens without loss
_PROBLEM, _ANSWER = "tessyproblem", "tessyanswer"


@dataclass(frozen=True, slots=True)
class StudentFormat:
    """Conversation format of the model to train.

    Attributes:
        renderer: Chat format and tokenizer.
        owner: Author of the markup: the student, or the teacher in a run of its own responses.
        alone: Whether ``owner`` wrote everything (a run of ``tessy sample``).
        end_id: Token that ends a turn.
    """

    renderer: Renderer
    owner: Author
    alone: bool
    end_id: int

    @classmethod
    def of(
        cls, renderer: Renderer, owner: Author = "student", *, alone: bool = False
    ) -> StudentFormat:
        """Return the format of ``renderer``.

        Raises:
            ModelError: The chat template does not end turns.
        """
        return cls(renderer, owner, alone, _end_of_turn(renderer))


@dataclass(frozen=True, slots=True)
class TokenizedSample:
    """A tokenized sample.

    Attributes:
        ids: Token ids of the whole conversation.
        authors: Author of each token; None in the prompt.
        encoded: Whether the text was tokenized again because the row has no matching ids.
    """

    ids: list[int]
    authors: list[Author | None]
    encoded: bool

    def weights(self, weights: Weights) -> list[float]:
        """Return the loss weight of each token; 0 for tokens without loss."""
        return [0.0 if author is None else weights[author] for author in self.authors]


def labels(ids: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return the ids of tokens with a positive weight, and :data:`IGNORED` elsewhere."""
    return [i if weight else IGNORED for i, weight in zip(ids, weights, strict=True)]


def tokenize(row: Trajectory, form: StudentFormat) -> TokenizedSample:
    """Tokenize a sample.

    Raises:
        InputError: The chat template or the tokenizer rejects the text.
    """
    renderer, owner = form.renderer, form.owner
    prompt = renderer.prompt_ids(row.messages[:-1])
    opening = _opening_tokens(renderer, prompt)
    authors: list[Author | None] = [None] * (len(prompt) - opening) + [owner] * opening
    sampled = _as_sampled(row, renderer)
    thinking, answer = sampled or _encoded(row, renderer)
    authors += _thinking_authors(row, renderer.codec, thinking, owner)
    authors += [owner if form.alone else row.answer_by] * len(answer)
    ids = [*prompt, *thinking, *answer, form.end_id]
    return TokenizedSample(ids, [*authors, owner], encoded=sampled is None)


def writers(row: Trajectory, form: StudentFormat) -> set[Author]:
    """Return the authors of thinking and answer, without markup."""
    return {span.author for span in row.spans} | {form.owner if form.alone else row.answer_by}


def _as_sampled(row: Trajectory, renderer: Renderer) -> tuple[list[int], list[int]] | None:
    """Return the ids of thinking with marker, and of the answer; None if the text differs."""
    if row.student_ids is None:
        return None
    codec, thinking = renderer.codec, row.thinking
    ids = unpack_ids(row.student_ids.thinking)
    answer = unpack_ids(row.student_ids.answer)
    if not (_matches(codec, ids, thinking) and _matches(codec, answer, row.answer)):
        return None
    kept, tail = split_tail(codec, ids, thinking, len(thinking) - last_unit(thinking))
    return kept + renderer.close_ids(tail), answer


def _encoded(row: Trajectory, renderer: Renderer) -> tuple[list[int], list[int]]:
    """Return the same ids by encoding the text span by span, as the synthesis does."""
    last = last_unit(row.thinking)
    ids: list[int] = []
    for span in row.spans:
        if span.start < last:
            ids += renderer.codec.encode(row.thinking[span.start : min(span.end, last)])
    return ids + renderer.close_ids(row.thinking[last:]), renderer.codec.encode(row.answer)


def _matches(codec: HfCodec, ids: Iterable[int], text: str) -> bool:
    return b"".join(codec.pieces(ids)) == text.encode("utf-8", "surrogatepass")


def _thinking_authors(
    row: Trajectory, codec: HfCodec, ids: Sequence[int], owner: Author
) -> list[Author]:
    """Return the author of the character where each token starts; ``owner`` after the thinking.

    Positions are in bytes, because a token may start inside a character.
    """
    starts = list(accumulate(map(len, codec.pieces(ids)), initial=0))[:-1]
    authors: list[Author] = []
    position = 0
    for span in row.spans:
        position += len(row.thinking[span.start : span.end].encode())
        authors += [span.author] * (bisect_left(starts, position) - len(authors))
    return authors + [owner] * (len(ids) - len(authors))


def _opening_tokens(renderer: Renderer, prompt: Sequence[int]) -> int:
    """Return the number of tokens at the end of the prompt that the model has to generate."""
    remaining = renderer.shape.suffix.encode()
    count = 0
    while remaining:
        piece = renderer.codec.token_bytes(prompt[-1 - count])
        if not piece or not remaining.endswith(piece):
            break  # the token starts in text of the template
        remaining = remaining[: len(remaining) - len(piece)]
        count += 1
    return count


def _end_of_turn(renderer: Renderer) -> int:
    """Return the id after an answer in the chat template."""
    turns = [{"role": "user", "content": _PROBLEM}, {"role": "assistant", "content": _ANSWER}]
    try:
        rest = renderer.template.render(turns, prompt=False).rpartition(_ANSWER)[2]
    except InputError as error:
        raise ModelError(f"the chat template cannot be used: {error}") from error
    mark = renderer.template.markup.match(rest.lstrip())
    if mark is not None:
        return renderer.codec.control[mark[0]]
    if len(renderer.answer_stop_ids) == 1:
        return next(iter(renderer.answer_stop_ids))
    raise ModelError(
        f"the chat template of {renderer.codec.name!r} does not end turns, so a trained model "
        "would not learn to stop; add an end of turn to the template"
    )
