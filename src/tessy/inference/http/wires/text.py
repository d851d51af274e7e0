"""``/v1/completions`` with text, for servers without token ids in requests or replies.

Control tokens are spelled out in the text; the reply's text is encoded again.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tessy.inference.base import Chunk, Mode, Request
from tessy.inference.http.wires.base import (
    NOTHING,
    BadReply,
    Wire,
    finished,
    fit_seed,
    neutral_sampling,
    only_choice,
)
from tessy.tokenization.token_ids import Codec, decode

_LOST = (
    "Prompts and replies are text, because the server takes or returns no token ids: every request "
    "is tokenized as a whole, and sampled tokens may change.",
    "Text that looks like a control token (a problem that contains </think>, say) becomes one on "
    "the server.",
    "The end of the thinking is found in the text of the reply, so the server must show the tokens "
    "that end it (llama.cpp needs --special where they are special tokens).",
)
_LOST_IN_PLAIN = (
    "The server refuses sampling values beyond OpenAI's, so top_k and min_p are not sent, and it "
    "may apply defaults of its own.",
)


class ControlText:
    """A codec of text in which control tokens are spelled out."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        spellings = {decode(codec, [token_id]): token_id for token_id in codec.control_ids}
        spellings.pop("", None)
        self._ids = spellings
        longest_first = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._prefixes = {text[:end] for text in spellings for end in range(1, len(text))}
        self._longest = max(map(len, spellings), default=1) - 1

    def encode(self, text: str) -> list[int]:
        """Return ids of ``text``; the spelling of a control token becomes that token."""
        ids: list[int] = []
        position = 0
        for match in self._pattern.finditer(text):
            ids += self._codec.encode(text[position : match.start()])
            ids.append(self._ids[match.group()])
            position = match.end()
        return ids + self._codec.encode(text[position:])

    def settled(self, text: str) -> int:
        """Return how many characters of ``text`` cannot be part of an incomplete control token."""
        for start in range(max(0, len(text) - self._longest), len(text)):
            if text[start:] in self._prefixes:
                return start
        return len(text)


class TextWire(Wire):
    """Text both ways, with special tokens included; ``plain`` sends only fields of OpenAI's API."""

    mode: Mode = "text"
    path = "/v1/completions"

    def __init__(self, model: str, codec: Codec, *, plain: bool = False) -> None:
        self._model = model
        self._codec = codec
        self._text = ControlText(codec)
        self._plain = plain
        self.notes = _LOST + _LOST_IN_PLAIN if plain else _LOST

    def body(self, request: Request, *, stream: bool) -> bytes:
        """Return the request, without stops: the reader finds them in the text."""
        sampling = neutral_sampling(request)
        del sampling["stop_token_ids"]  # many servers cut stops out of the text, without report
        if self._plain:
            kept = ("max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty")
            sampling = {name: sampling[name] for name in kept}
        else:
            added = ("skip_special_tokens", "spaces_between_special_tokens", "add_special_tokens")
            sampling |= dict.fromkeys(added, False)
        fields = {
            "model": self._model,
            "stream": stream,
            "seed": fit_seed(request.seed, 31),
            **sampling,
            "prompt": decode(self._codec, request.prompt.ids),
            "n": 1,
        }
        return json.dumps(fields).encode("ascii")

    def reader(self, request: Request) -> TextReader:
        """Return a reader that buffers text which may begin a control token."""
        return TextReader(self._text, request.stop_ids)


class TextReader:
    """Reads ``choices[0].text`` and encodes it."""

    by_ids = False

    def __init__(self, text: ControlText, stop_ids: tuple[int, ...]) -> None:
        self._text = text
        self._stop_ids = stop_ids
        self._held = ""

    def read(self, event: dict[str, Any]) -> Chunk:
        """Return the new ids of ``event``; a stop id spelled out in the text ends it there."""
        choice = only_choice(event)
        if choice is None:
            return NOTHING
        new = choice.get("text")
        if not isinstance(new, str):
            raise BadReply(f"a choice without text: {str(choice)[:200]}")
        text = self._held + new
        reason = choice.get("finish_reason")
        settled = len(text) if reason is not None else self._text.settled(text)
        self._held = text[settled:]
        ids = self._text.encode(text[:settled])
        for index, token_id in enumerate(ids):
            if token_id in self._stop_ids:
                return Chunk(tuple(ids[:index]), "stop", token_id)
        stop_id = choice.get("stop_reason")
        return finished(ids, reason, stop_id if type(stop_id) is int else None, includes_stop=False)
