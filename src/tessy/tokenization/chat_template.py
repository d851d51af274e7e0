"""The chat template of a tokenizer, applied so that markup in users' text stays text.

Text that looks like markup (``<|im_end|>`` in a problem) must not become markup. Each such string
in a message is replaced by a private-use character before rendering. In the rendered text, the
stretch around it, between two added tokens, is encoded by the codec, which never produces markup.
The rest is encoded by the tokenizer itself, so that a conversation without markup gets exactly the
ids of ``apply_chat_template``.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from tessy.core.errors import InputError, ModelError
from tessy.tokenization.codec import HfCodec, surrogate_error

if TYPE_CHECKING:  # importing transformers is slow
    from transformers import PreTrainedTokenizerFast

Block = dict[str, str]
# A message for templates: role, content and optionally thinking. The content is text, or blocks.
Turn = dict[str, Any]

_FIRST_PLACEHOLDER = 0xF0000  # of the private-use characters


def thought_pattern(opening: str, closing: str) -> re.Pattern[str]:
    """Return a pattern of assistant content that begins with thinking.

    Its groups are the opening marker, the thinking, the closing marker, and the answer. Content
    with markers after its beginning only does not match.
    """
    return re.compile(rf"(\s*{re.escape(opening)})(.*?)({re.escape(closing)})(.*)", re.DOTALL)


_ROW_THOUGHT = thought_pattern("<think>", "</think>")  # the markers in rows


def split_thinking(content: str) -> tuple[str, str] | None:
    """Return thinking and answer of an assistant turn that begins with ``<think>``, else None.

    Line breaks next to the markers belong to the markers, as in the templates of the families.
    """
    match = _ROW_THOUGHT.fullmatch(content)
    return (match[2].strip("\n"), match[4].lstrip("\n")) if match else None


def check_turns_rendered(
    prompt: str, turns: Sequence[Turn], model: str, thought: re.Pattern[str] | None = None
) -> None:
    """Raise InputError if a rendered prompt lacks the text of a turn; names the first such turn.

    White space at the ends of a text may be missing, and so may the thinking of assistant turns
    (``thought``), which most templates remove from history.
    """
    texts = [(number, text) for number, turn in enumerate(turns) for text in _texts(turn, thought)]
    missing = []
    # Longest first and each place once: a text may be part of another one, or occur twice.
    for number, text in sorted(texts, key=lambda item: len(item[1]), reverse=True):
        before, found, after = prompt.partition(text)
        if not found:
            missing.append((number, text))
        prompt = f"{before}\0{after}" if found else prompt
    if missing:
        number, text = min(missing)
        role = turns[number]["role"]
        advice = "move its text into a user message" if role == "system" else "change the messages"
        raise InputError(
            f"the chat template of {model!r} drops or changes the text of turn {number + 1} "
            f"({role}: {shorten(text, 60, placeholder=' …')!r}); {advice}, or use another model"
        )


def _texts(turn: Turn, thought: re.Pattern[str] | None) -> list[str]:
    """Return the texts of a turn that a prompt must contain."""
    content = turn["content"]
    if not isinstance(content, str):
        texts = [block["text"] for block in content if block["type"] == "text"]
    elif turn["role"] == "assistant" and thought and (match := thought.fullmatch(content)):
        texts = [match[4]]
    else:
        texts = [content]
    return [text.strip() for text in texts if text.strip()]


def _strings(turn: Turn) -> Iterator[str]:
    """Yield every string of a turn, those of blocks included."""
    for value in turn.values():
        if isinstance(value, str):
            yield value
        else:
            yield from (text for block in value for text in block.values())


class ChatTemplate:
    """The chat template of a tokenizer: renders and encodes conversations.

    ``source`` is its Jinja source, ``markup`` a pattern of the control tokens, and ``date`` the
    date that it prints, if it prints one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        codec: HfCodec,
        options: Mapping[str, Any],
        date: datetime.date | None = None,
    ) -> None:
        """Load the template of ``tokenizer``; ModelError if it has none.

        ``options`` are variables passed to the template; a ``date`` of None is today's.
        """
        self._tokenizer = tokenizer
        self._codec = codec
        self.date = date or datetime.date.today()
        midnight = datetime.datetime.combine(self.date, datetime.time())
        # The name that transformers gives to templates; theirs returns the present time.
        self._options = {**options, "strftime_now": midnight.strftime}
        try:
            self.source = str(tokenizer.get_chat_template())
        except ValueError:
            raise ModelError(
                f"the tokenizer of {codec.name!r} has no chat template; use the chat model instead "
                "of the base model, or add a chat_template.jinja to its folder"
            ) from None
        longest_first = sorted(codec.control, key=len, reverse=True)
        self.markup = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._added_ids = frozenset(tokenizer.added_tokens_decoder)

    @property
    def prints_date(self) -> bool:
        """Whether prompts depend on :attr:`date`."""
        return "strftime_now" in self.source

    def render(self, turns: Sequence[Turn], *, prompt: bool = True) -> str:
        """Render ``turns``, by default followed by the generation prompt; may raise InputError."""
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(turns),
                    chat_template=self.source,
                    tokenize=False,
                    add_generation_prompt=prompt,
                    **self._options,
                )
            )
        except (TemplateError, TypeError) as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise InputError(
                f"the chat template of {self._codec.name!r} rejects this conversation "
                f"(roles: {roles}): {error}; change its messages or use another model"
            ) from error

    def encode(
        self, turns: Sequence[Turn], suffix: str, thought: re.Pattern[str] | None
    ) -> list[int]:
        """Return ids of the rendered prompt, followed by ``suffix`` with its markup.

        ``thought`` is the pattern of thinking in assistant turns (:func:`thought_pattern`). Its
        markers stay as they are, because most templates remove them from history.

        Raises:
            InputError: The template rejects the conversation or drops the text of a turn, or the
                text is not valid Unicode.
        """
        text, placeholders = self._rendered(turns, thought)
        text += suffix
        try:
            encoding = self._tokenizer(
                text,
                add_special_tokens=False,
                return_offsets_mapping=bool(placeholders),
                verbose=False,
            )
        except TypeError:  # raised by tokenizers for text that is not UTF-8
            raise surrogate_error(text) from None
        ids: list[int] = encoding["input_ids"]
        if not placeholders:
            return ids
        return self._reveal(text, ids, encoding["offset_mapping"], placeholders)

    def check(self, turns: Sequence[Turn], thought: re.Pattern[str] | None) -> None:
        """Check that every turn is rendered, without encoding; raises like :meth:`encode`."""
        self._rendered(turns, thought)

    def _rendered(
        self, turns: Sequence[Turn], thought: re.Pattern[str] | None
    ) -> tuple[str, dict[str, str]]:
        hidden, placeholders = self._hide(turns, thought)
        text = self.render(hidden)
        try:
            check_turns_rendered(text, hidden, self._codec.name, thought)
        except InputError:
            if placeholders:  # for a message with the text instead of placeholders
                check_turns_rendered(self.render(turns), turns, self._codec.name, thought)
            raise
        return text, placeholders

    def _hide(
        self, turns: Sequence[Turn], thought: re.Pattern[str] | None
    ) -> tuple[list[Turn], dict[str, str]]:
        """Replace markup in the messages by placeholders; return also the markup by placeholder."""
        all_text = "".join(text for turn in turns for text in _strings(turn))
        markup = dict.fromkeys(self.markup.findall(all_text))
        if not markup:
            return list(turns), {}
        used = set(all_text)
        unused = (c for c in map(chr, range(_FIRST_PLACEHOLDER, 0x110000)) if c not in used)
        placeholders = dict(zip(markup, unused, strict=False))

        def hide(text: str) -> str:
            return self.markup.sub(lambda match: placeholders[match[0]], text)

        def hide_in(value: str | list[Block], role: str) -> str | list[Block]:
            if not isinstance(value, str):
                return [{key: hide(text) for key, text in block.items()} for block in value]
            match = thought.fullmatch(value) if thought and role == "assistant" else None
            if match is None:
                return hide(value)
            opening, thinking, closing, answer = match.groups()
            return opening + hide(thinking) + closing + hide(answer)

        hidden = [
            {key: v if key == "role" else hide_in(v, turn["role"]) for key, v in turn.items()}
            for turn in turns
        ]
        return hidden, {placeholder: string for string, placeholder in placeholders.items()}

    def _reveal(
        self,
        text: str,
        ids: Sequence[int],
        offsets: Sequence[tuple[int, int]],
        placeholders: Mapping[str, str],
    ) -> list[int]:
        """Encode again each stretch between two added tokens that contains a placeholder."""
        result: list[int] = []
        table = str.maketrans(dict(placeholders))
        start, run = 0, list[int]()

        def finish(end: int) -> None:
            stretch = text[start:end]
            if placeholders.keys().isdisjoint(stretch):
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
