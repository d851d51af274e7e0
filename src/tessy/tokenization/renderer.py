"""The chat format of a model: ids of prompts, and text of rows.

Rows are in the student's format, with the thinking between its markers in the content of the
assistant turn. Rows of a harmony student have ``<think>`` instead, because its template rejects its
own channels in the content. :meth:`Renderer.turns` converts messages of a row to the fields that
the template expects: ``apply_chat_template(renderer.turns(row.messages))`` is the training text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tessy.core.records import Message
from tessy.tokenization.chat_template import (
    Block,
    ChatTemplate,
    Turn,
    split_thinking,
    thought_pattern,
)
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.token_ids import decode

Family = Literal["qwen3", "deepseek_r1", "harmony", "gemma4", "generic"]
ThinkingPlace = Literal["fields", "blocks", "content"]

_ROW_MARKERS = ("<think>\n", "\n</think>\n\n")
# The names that templates use for thinking; each template reads one of them.
THINKING_FIELDS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class Shape:
    r"""The markers of a turn.

    Attributes:
        suffix: Text from the end of the template's generation prompt to the start of the thinking.
        opening: Start marker of the thinking with its white space (``"<think>\n"``).
        closing: End of the thinking and start of the answer (``"\n</think>\n\n"``).
        place: Where the template reads the thinking of a turn: in fields next to the content, in
            a block of the content, or in its text.
        shown: Whether the template shows the white space next to the markers; otherwise it is the
            usual one.
    """

    suffix: str
    opening: str
    closing: str
    place: ThinkingPlace
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Renderer:
    """The chat format of a model.

    The ``thinking_stop_ids`` end the thinking, the ``answer_stop_ids`` the answer.
    """

    family: Family
    codec: HfCodec
    thinking_stop_ids: frozenset[int]
    answer_stop_ids: frozenset[int]
    shape: Shape
    template: ChatTemplate = field(repr=False)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return ids up to and including the opening marker of the thinking.

        Raises:
            InputError: The template rejects the conversation, or drops the text of a turn.
        """
        return self.template.encode(self.turns(messages), self.shape.suffix, self._thought_to_keep)

    def check_prompt(self, messages: Sequence[Message]) -> None:
        """Raise what :meth:`prompt_ids` raises, without encoding, which is slower."""
        self.template.check(self.turns(messages), self._thought_to_keep)

    @property
    def _thought_to_keep(self) -> re.Pattern[str] | None:
        return self._own_thought if self.shape.place == "content" else None

    @property
    def _own_thought(self) -> re.Pattern[str]:
        return thought_pattern(self.shape.opening.strip(), self.shape.closing.strip())

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Return the text of :meth:`prompt_ids` with markup, for display."""
        return decode(self.codec, self.prompt_ids(messages))

    def close_ids(self, tail: str) -> list[int]:
        r"""Return ids of ``tail``, the end of the thinking and the start of the answer.

        ``tail`` is the last unit of the thinking; it is encoded together with the white space of
        the marker, so that ``".\n"`` is one token if the model has it.
        """
        ids: list[int] = []
        position = 0
        for mark in self.template.markup.finditer(self.shape.closing):
            ids += self.codec.encode(tail + self.shape.closing[position : mark.start()])
            ids.append(self.codec.control[mark[0]])
            tail, position = "", mark.end()
        return ids + self.codec.encode(self.shape.closing[position:])

    def assistant(self, thinking: str, answer: str) -> str:
        """Return the content of the assistant turn of a row."""
        if self.family == "harmony":
            opening, closing = _ROW_MARKERS
        else:
            opening, closing = self.shape.opening, self.shape.closing
        return f"{opening}{thinking}{closing}{answer}"

    def turns(self, messages: Iterable[Message]) -> list[Turn]:
        """Return the messages as expected by the tokenizer's ``apply_chat_template``.

        In assistant turns that begin with ``<think>`` or the model's own marker, the thinking is
        moved to where the template reads it.
        """
        return [self._turn(message) for message in messages]

    def _turn(self, message: Message) -> Turn:
        turn: Turn = {"role": message.role, "content": message.content}
        parts = self._split(message.content) if message.role == "assistant" else None
        if parts is None:
            return turn
        thinking, answer = parts
        if self.shape.place == "fields":
            return turn | {"content": answer} | dict.fromkeys(THINKING_FIELDS, thinking)
        if self.shape.place == "blocks":
            return turn | {"content": thinking_blocks(thinking, answer)}
        if (self.shape.opening, self.shape.closing) == _ROW_MARKERS:
            return turn
        return turn | {"content": self.assistant(thinking, answer)}

    def _split(self, content: str) -> tuple[str, str] | None:
        """Return thinking and answer of a turn with the markers of rows or of the model."""
        shape = self.shape
        if content.startswith(shape.opening) and shape.closing in content:
            thinking, _, answer = content.removeprefix(shape.opening).partition(shape.closing)
        elif match := self._own_thought.fullmatch(content):
            thinking, answer = match[2], match[4]
        else:
            return split_thinking(content)
        return thinking.strip("\n"), answer.lstrip("\n")


def thinking_blocks(thinking: str, answer: str) -> list[Block]:
    """Return the content of an assistant turn as blocks, as Mistral's templates read it."""
    return [{"type": "thinking", "thinking": thinking}, {"type": "text", "text": answer}]
