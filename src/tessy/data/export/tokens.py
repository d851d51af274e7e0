"""A sample as the ids its student would read and write, each with its author (pure).

    prompt | opening marker | thinking | closing marker | answer | end of turn

It is the sequence of the synthesis: the thinking's last unit is encoded together with the end
marker, as it was when the answer was asked for. Tokens of the prompt have no author and are never
learned. The thinking's are authored by the spans, the answer's by who wrote it. What the model must
write beside them counts as the student's: an opening marker that its chat template leaves to it,
the closing marker and the end of the turn.

A token that straddles two authors belongs to the author of its first character: that is where the
choice of the token was made, and every character stays covered exactly once.
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

IGNORED = -100  # the label that no loss counts
_QUESTION, _ANSWER = "tessyquestion", "tessyanswer"


@dataclass(frozen=True, slots=True)
class StudentFormat:
    """How the model that will be trained writes a conversation.

    Attributes:
        renderer: Its format.
        owner: Who it is; the markers are its own. The teacher in a run of its own responses.
        alone: It wrote everything (a run of ``tessy sample``).
        end_id: Ends its turn.
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
            ModelError: Its template does not say how a turn ends.
        """
        return cls(renderer, owner, alone, _end_of_turn(renderer))


@dataclass(frozen=True, slots=True)
class TokenizedSample:
    """A sample in tokens.

    Attributes:
        ids: The whole conversation.
        authors: The author of each; None in the prompt.
        encoded: The row has no ids that spell its text, so it was tokenized again.
    """

    ids: list[int]
    authors: list[Author | None]
    encoded: bool

    def weights(self, weights: Weights) -> list[float]:
        """Return the weight of each token in the loss; 0 where it is not learned."""
        return [0.0 if author is None else weights[author] for author in self.authors]


def labels(ids: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return the ids that are learned; :data:`IGNORED` elsewhere."""
    return [i if weight else IGNORED for i, weight in zip(ids, weights, strict=True)]


def tokenize(row: Trajectory, form: StudentFormat) -> TokenizedSample:
    """Return the sample in tokens.

    Raises:
        InputError: The template refuses the problem, or text that no tokenizer takes.
    """
    renderer, owner = form.renderer, form.owner
    prompt = renderer.prompt_ids(row.messages[:-1])
    opening = _opening_tokens(renderer, prompt)
    authors: list[Author | None] = [None] * (len(prompt) - opening) + [owner] * opening
    sampled = _as_sampled(row, renderer)
    thought, answer = sampled or _encoded(row, renderer)
    authors += _thought_authors(row, renderer.codec, thought, owner)
    authors += [owner if form.alone else row.answer_by] * len(answer)
    ids = [*prompt, *thought, *answer, form.end_id]
    return TokenizedSample(ids, [*authors, owner], encoded=sampled is None)


def writers(row: Trajectory, form: StudentFormat) -> set[Author]:
    """Return the authors of thinking and answer; markup is not counted."""
    return {span.author for span in row.spans} | {form.owner if form.alone else row.answer_by}


def _as_sampled(row: Trajectory, renderer: Renderer) -> tuple[list[int], list[int]] | None:
    """Ids of thinking and marker, and of the answer; None if the row's do not spell its text."""
    if row.student_ids is None:
        return None
    codec, thinking = renderer.codec, row.thinking
    ids = unpack_ids(row.student_ids.thinking)
    answer = unpack_ids(row.student_ids.answer)
    if not (_spell(codec, ids, thinking) and _spell(codec, answer, row.answer)):
        return None
    kept, tail = split_tail(codec, ids, thinking, len(thinking) - last_unit(thinking))
    return kept + renderer.close_ids(tail), answer


def _encoded(row: Trajectory, renderer: Renderer) -> tuple[list[int], list[int]]:
    """The same from the text; a span at a time, as another author's text is always encoded."""
    last = last_unit(row.thinking)
    ids: list[int] = []
    for span in row.spans:
        if span.start < last:
            ids += renderer.codec.encode(row.thinking[span.start : min(span.end, last)])
    return ids + renderer.close_ids(row.thinking[last:]), renderer.codec.encode(row.answer)


def _spell(codec: HfCodec, ids: Iterable[int], text: str) -> bool:
    return b"".join(codec.pieces(ids)) == text.encode("utf-8", "surrogatepass")


def _thought_authors(
    row: Trajectory, codec: HfCodec, ids: Sequence[int], owner: Author
) -> list[Author]:
    """Return the author of the character in which each id begins; behind the thinking the marker's.

    Counted in bytes, since a token may begin inside a character.
    """
    starts = list(accumulate(map(len, codec.pieces(ids)), initial=0))[:-1]
    authors: list[Author] = []
    position = 0
    for span in row.spans:
        position += len(row.thinking[span.start : span.end].encode())
        authors += [span.author] * (bisect_left(starts, position) - len(authors))
    return authors + [owner] * (len(ids) - len(authors))


def _opening_tokens(renderer: Renderer, prompt: Sequence[int]) -> int:
    """Return tokens at the prompt's end that the template does not write, so the model has to."""
    left = renderer.shape.suffix.encode()
    count = 0
    while left:
        piece = renderer.codec.token_bytes(prompt[-1 - count])
        if not piece or not left.endswith(piece):
            break  # it begins in the template's own text
        left = left[: len(left) - len(piece)]
        count += 1
    return count


def _end_of_turn(renderer: Renderer) -> int:
    """Return the id after an answer in the model's own template."""
    turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
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
        f"the chat template of {renderer.codec.name!r} ends no turn, so the trained model would "
        "not learn to stop; add the end of the turn to its template"
    )
