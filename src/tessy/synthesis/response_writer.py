"""Thinking and answer to a prompt, each by one model."""

from __future__ import annotations

from collections.abc import Sequence

from tessy.core.edges import last_unit
from tessy.core.errors import InputError, SampleFailed
from tessy.core.records import Author, Message
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.context import REQUEST_TOKENS
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.single_model import SingleModelGeneration, Text
from tessy.tokenization.token_ids import split_tail

Prompt = tuple[int, ...]


class ResponseWriter:
    """A response, with the prompts that its authors read (in their tokens) and its limits."""

    def __init__(
        self,
        attempt: SampleAttempt,
        messages: Sequence[Message],
        authors: Sequence[Author],
        *,
        answering: Author | None = None,
        label: tuple[str | int, ...] = (),
        aside: bool = False,
    ) -> None:
        """Render the prompts, each of which the chat template may refuse, and compute the limits.

        Args:
            attempt: The attempt that the text belongs to; a saved text is continued.
            messages: The conversation that the models read.
            authors: The models that take part; each reads all of the text.
            answering: The author of the answer; None: as in the context of the run.
            label: Part of the seeds, so that several texts of a sample draw differently.
            aside: The text is not part of the row; it is measured in its author's tokens.
        """
        self._attempt = attempt
        self._answering = answering or attempt.context.answering
        self._label = label
        self._aside = aside
        self.prompts = {author: _prompt(attempt, author, messages) for author in authors}
        lengths = {author: len(prompt) for author, prompt in self.prompts.items()}
        self.limits = attempt.context.limits(lengths, self._answering)
        self._extra_tokens = 0  # prompt tokens of the answering model beyond those of the problem
        if tuple(messages) != attempt.problem.messages:
            problem_prompt = _prompt(attempt, self._answering, attempt.problem.messages)
            self._extra_tokens = lengths[self._answering] - len(problem_prompt)

    async def think(self, author: Author, *, may_be_empty: bool = False) -> None:
        """Let ``author`` write the thinking; an ``aside`` one may always be empty."""
        attempt = self._attempt
        generation = self._generation(
            author,
            "thinking",
            self.prompts[author],
            max_tokens=self.limits.thinking,
            room_tokens=self.limits.available[author],
        )
        await attempt.write(generation)
        if not (self._aside or may_be_empty) and not generation.text()[0]:
            raise SampleFailed("empty_thinking", f"the {author} ended it at once")

    async def answer(self) -> str:
        """Let the answering model read the thinking and write the answer."""
        attempt, author = self._attempt, self._answering
        renderer = attempt.context.backends[author].renderer
        text, ids = self._thinking_of(author)
        # The last unit and the end marker's white space are encoded together, as in training.
        kept, tail = split_tail(renderer.codec, ids, text, len(text) - last_unit(text))
        generation = self._generation(
            author,
            "answer",
            (*self.prompts[author], *kept, *renderer.close_ids(tail)),
            max_tokens=self.limits.answer,
            room_tokens=self.limits.whole - len(ids),
        )
        await attempt.write(generation)
        longest = self._extra_tokens + len(ids) + len(generation.ids)
        attempt.longest_tokens = max(attempt.longest_tokens, longest)
        answer = generation.text()[0]
        if not answer:
            raise SampleFailed("empty_answer", f"the {author} ended its turn without an answer")
        return answer

    def _generation(
        self, author: Author, what: Text, prompt: Prompt, *, max_tokens: int, room_tokens: int
    ) -> SingleModelGeneration:
        attempt = self._attempt
        renderer = attempt.context.backends[author].renderer
        own = self._aside or author == attempt.context.home
        place = (author, what) if what == "thinking" else (what,)
        return SingleModelGeneration(
            author,
            renderer.codec,
            prompt,
            what=what,
            stop_ids=renderer.thinking_stop_ids if what == "thinking" else renderer.answer_stop_ids,
            max_tokens=max_tokens,
            room_tokens=room_tokens,
            measured_by=None if own else attempt.context.format.codec,
            aside=self._aside,
            request_tokens=REQUEST_TOKENS,
            seed=lambda generated: attempt.seed(*self._label, *place, generated),
        )

    def _thinking_of(self, author: Author) -> tuple[str, list[int]]:
        thinker = self._attempt.thinker
        assert thinker is not None  # an answer follows a thinking
        if isinstance(thinker, Cooperation):
            thinking = thinker.thinking
            return thinking.text, list(thinking.ids[author].ids[len(self.prompts[author]) :])
        return thinker.text_in(self._attempt.context.backends[author].renderer.codec)


def _prompt(attempt: SampleAttempt, author: Author, messages: Sequence[Message]) -> Prompt:
    own = messages is attempt.problem.messages
    if own and author in attempt.prompts:
        return attempt.prompts[author]
    try:
        prompt = tuple(attempt.context.backends[author].renderer.prompt_ids(messages))
    except InputError as error:
        raise SampleFailed("refused", f"the {author}'s chat template: {error}") from error
    if own:
        attempt.prompts[author] = prompt
    return prompt
