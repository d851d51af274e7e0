"""The chat template of a tokenizer, applied so that markup in users' text stays text.

Text that looks like markup (``<|im_end|>`` in a problem) must not become markup. Each such string
in a message is replaced by one private-use character before the template sees it; in the rendering,
the stretch of text around it, from one real token of markup to the next, is encoded by the codec,
which knows no markup. Everything else is encoded as the tokenizer itself does it, so a
conversation without markup gets exactly the ids of ``apply_chat_template``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from tessy.core.errors import InputError, ModelError
from tessy.tokenization.codec import HfCodec, surrogate_error

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers import PreTrainedTokenizerFast

Turn = dict[str, str]  # a message as templates take it: role, content and perhaps thinking

# First of the private-use characters, of which those are used that no message contains.
_FIRST_STAND_IN = 0xF0000


def thought_pattern(opening: str, closing: str) -> re.Pattern[str]:
    """Matches assistant content that opens with thinking; groups: marker, text, marker, answer.

    Content that only mentions the markers further on does not match.
    """
    marks = re.escape(opening), re.escape(closing)
    return re.compile(rf"(\s*{marks[0]})(.*?)({marks[1]})(.*)", re.DOTALL)


_ROW_THOUGHT = thought_pattern("<think>", "</think>")  # as rows have it


def split_thinking(content: str) -> tuple[str, str] | None:
    """Return thinking and answer of an assistant turn that opens with ``<think>``, or None.

    Line breaks next to the markers belong to the markers, as in the families' templates.
    """
    match = _ROW_THOUGHT.fullmatch(content)
    return (match[2].strip("\n"), match[4].lstrip("\n")) if match else None


class ChatTemplate:
    """Renders and encodes conversations for one tokenizer.

    Attributes:
        source: The Jinja source.
        markup: Matches every string that stands for one id.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, codec: HfCodec, options: Mapping[str, Any]
    ) -> None:
        """Take the template of ``tokenizer``; ``options`` are passed to each rendering.

        Raises:
            ModelError: The tokenizer has no chat template.
        """
        self._tokenizer = tokenizer
        self._codec = codec
        self._options = dict(options)
        try:
            self.source = str(tokenizer.get_chat_template())
        except ValueError:
            raise ModelError(
                f"the tokenizer of {codec.name!r} has no chat template, so tessy cannot know how "
                "to ask it; use the chat (not the base) model, or put a chat_template.jinja in "
                "its folder"
            ) from None
        longest_first = sorted(codec.control, key=len, reverse=True)
        self.markup = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._added_ids = frozenset(tokenizer.added_tokens_decoder)

    def render(self, turns: Sequence[Turn], *, prompt: bool = True) -> str:
        """Render ``turns``, up to where the assistant continues if ``prompt``.

        Raises:
            InputError: The template refuses the conversation.
        """
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(turns), tokenize=False, add_generation_prompt=prompt, **self._options
                )
            )
        except (TemplateError, TypeError) as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise InputError(
                f"the chat template of {self._codec.name!r} refuses this conversation "
                f"(roles: {roles}): {error}; change its messages or use another model"
            ) from error

    def encode(
        self, turns: Sequence[Turn], suffix: str, thought: re.Pattern[str] | None
    ) -> list[int]:
        """Return ids of the rendered prompt followed by ``suffix``.

        Args:
            turns: The conversation.
            suffix: The template's own markup, to be read as such.
            thought: Finds thinking in assistant turns (:func:`thought_pattern`). Its markers are
                for the template to see, since most templates strip them from history.

        Raises:
            InputError: The template refuses the conversation, or it is no Unicode text.
        """
        hidden, stand_ins = self._hide(turns, thought)
        text = self.render(hidden) + suffix
        try:
            encoding = self._tokenizer(
                text,
                add_special_tokens=False,
                return_offsets_mapping=bool(stand_ins),
                verbose=False,
            )
        except TypeError:  # raised by tokenizers for text that is not UTF-8
            raise surrogate_error(text) from None
        ids: list[int] = encoding["input_ids"]
        if not stand_ins:
            return ids
        return self._reveal(text, ids, encoding["offset_mapping"], stand_ins)

    def _hide(
        self, turns: Sequence[Turn], thought: re.Pattern[str] | None
    ) -> tuple[list[Turn], dict[str, str]]:
        """Replace markup in the messages by placeholder characters; also return their meaning."""
        everything = "".join(value for turn in turns for value in turn.values())
        found = dict.fromkeys(self.markup.findall(everything))
        if not found:
            return list(turns), {}
        used = set(everything)
        free = (c for c in map(chr, range(_FIRST_STAND_IN, 0x110000)) if c not in used)
        stand_ins = dict(zip(found, free, strict=False))

        def hide(text: str) -> str:
            return self.markup.sub(lambda match: stand_ins[match[0]], text)

        def hide_in(text: str, role: str) -> str:
            match = thought.fullmatch(text) if thought and role == "assistant" else None
            if match is None:
                return hide(text)
            opening, thinking, closing, answer = match.groups()
            return opening + hide(thinking) + closing + hide(answer)

        hidden = [
            {key: v if key == "role" else hide_in(v, turn["role"]) for key, v in turn.items()}
            for turn in turns
        ]
        return hidden, {stand_in: markup for markup, stand_in in stand_ins.items()}

    def _reveal(
        self,
        text: str,
        ids: Sequence[int],
        offsets: Sequence[tuple[int, int]],
        stand_ins: Mapping[str, str],
    ) -> list[int]:
        """Encode again each stretch between two added tokens that contains a placeholder."""
        result: list[int] = []
        table = str.maketrans(dict(stand_ins))
        start, run = 0, list[int]()

        def finish(end: int) -> None:
            stretch = text[start:end]
            if stand_ins.keys().isdisjoint(stretch):
                result.extend(run)
            else:
                result.extend(self._codec.encode_prompt(stretch.translate(table)))

        for token_id, (first, last) in zip(ids, offsets, strict=True):
            if token_id in self._added_ids:
                finish(first)
                result.append(token_id)
                start, run = last, []
            else:
                run.append(token_id)
        finish(len(text))
        return result
