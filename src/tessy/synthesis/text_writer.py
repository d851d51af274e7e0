"""One text at a desk: thinking and an answer to a prompt, each by one author or the other."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tessy.core.edges import last_unit
from tessy.core.errors import InputError, SampleFailed
from tessy.core.records import Author, Message
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.context import REQUEST_TOKENS
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.single_model import SingleModelGeneration, Text
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.token_ids import split_tail

Prompt = tuple[int, ...]


class ResponseWriter:
    """A text, and what its authors read before it.

    Attributes:
        prompts: The question in the tokens and format of each of them.
        limits: How long it may grow.
    """

    def __init__(
        self,
        desk: SampleAttempt,
        messages: Sequence[Message],
        authors: Sequence[Author],
        *,
        answering: Author | None = None,
        label: tuple[str | int, ...] = (),
        aside: bool = False,
    ) -> None:
        """Nothing written yet.

        Args:
            desk: Where it is written; where an earlier process left off in it, it goes on there.
            messages: What is asked.
            authors: Who takes part: each reads all of it.
            answering: Who of them writes the answer; None: the one who does in this room.
            label: Tells the draws of this text from those of the sample's others.
            aside: It will be no part of the row; it is measured in its author's tokens.

        Raises:
            SampleFailed: ``refused``: a chat template refuses the messages; ``prompt_too_long``.
        """
        self._desk = desk
        self._answering = answering or desk.room.answering
        self._label = label
        self._aside = aside
        self.prompts = {author: _prompt(desk, author, messages) for author in authors}
        lengths = {author: len(prompt) for author, prompt in self.prompts.items()}
        self.limits = desk.room.limits(lengths, self._answering)
        self._longer = 0  # than the question, in tokens of who answers
        if tuple(messages) != desk.problem.messages:
            question = _prompt(desk, self._answering, desk.problem.messages)
            self._longer = lengths[self._answering] - len(question)

    async def think(self, author: Author) -> None:
        """Have ``author`` write the thinking.

        Raises:
            SampleFailed: It cannot be finished, or is empty where a row will have it.
        """
        desk = self._desk
        solo = self._solo(
            author,
            "thinking",
            self.prompts[author],
            max_tokens=self.limits.thinking,
            room_tokens=self.limits.room[author],
        )
        if desk.saved is not None:
            state, pieces = desk.saved
            solo.restore(state["thinking"], [i for piece in pieces for i in json.loads(piece)])
        await desk.write(solo)
        if not self._aside and not solo.text()[0]:
            raise SampleFailed("empty_thinking", f"the {author} ended it at once")

    async def answer(self) -> str:
        """Have the one who answers read the desk's thinking and answer.

        Raises:
            SampleFailed: It cannot be finished, or is empty.
        """
        desk, author = self._desk, self._answering
        renderer = desk.room.seats[author].renderer
        text, ids = self._thinking_of(author)
        # The last unit and the end marker's white space are encoded as one, as the model knows
        # them.
        kept, tail = split_tail(renderer.codec, ids, text, len(text) - last_unit(text))
        solo = self._solo(
            author,
            "answer",
            (*self.prompts[author], *kept, *renderer.close_ids(tail)),
            max_tokens=self.limits.answer,
            room_tokens=self.limits.whole - len(ids),
        )
        if desk.saved is not None and (state := desk.saved[0]["answer"]) is not None:
            solo.restore(state, state["ids"])
        await desk.write(solo)
        longest = self._longer + len(ids) + len(solo.ids)
        desk.longest_tokens = max(desk.longest_tokens, longest)
        answer = solo.text()[0]
        if not answer:
            raise SampleFailed("empty_answer", f"the {author} ended its turn without an answer")
        return answer

    def _solo(
        self, author: Author, what: Text, prompt: Prompt, *, max_tokens: int, room_tokens: int
    ) -> SingleModelGeneration:
        desk = self._desk
        renderer = desk.room.seats[author].renderer
        own = self._aside or author == desk.room.home
        place = (author, what) if what == "thinking" else (what,)
        return SingleModelGeneration(
            author,
            renderer.codec,
            prompt,
            what=what,
            stop_ids=renderer.thinking_stop_ids if what == "thinking" else renderer.answer_stop_ids,
            max_tokens=max_tokens,
            room_tokens=room_tokens,
            measured_by=None if own else desk.room.format.codec,
            aside=self._aside,
            request_tokens=REQUEST_TOKENS,
            seed=lambda written: desk.seed(*self._label, *place, written),
        )

    def _thinking_of(self, author: Author) -> tuple[str, list[int]]:
        """The desk's thinking with the ids that ``author`` has of it."""
        thinker = self._desk.thinker
        assert thinker is not None  # who answers has a thinking to go on from
        if isinstance(thinker, Cooperation):
            thinking = thinker.thinking
            return thinking.text, list(thinking.ids[author].ids[len(self.prompts[author]) :])
        return thinker.text_in(_codec(self._desk, author))


def _codec(desk: SampleAttempt, author: Author) -> HfCodec:
    return desk.room.seats[author].renderer.codec


def _prompt(desk: SampleAttempt, author: Author, messages: Sequence[Message]) -> Prompt:
    try:
        return tuple(desk.room.seats[author].renderer.prompt_ids(messages))
    except InputError as error:
        raise SampleFailed("refused", f"the {author}'s chat template: {error}") from error
