"""Annotators, which list the style in a segment: a strong model, or a user-defined function."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tessy.boundary.annotation.instruction import ReplyFault, parse, prompt
from tessy.boundary.annotation.locate import UnmatchedString, locate
from tessy.boundary.annotation.segments import TextSegment
from tessy.boundary.callables import check_signature, load_callable
from tessy.core.errors import ConfigError
from tessy.core.records import Message, StyleSpan
from tessy.inference.base import Sampling
from tessy.inference.chat import ChatPool, ChatRequest

_SIGNATURE = "(text: str) -> list[str]"
_TRIAL = "Okay, so 3 + 4 = 7."
_MARGIN_TOKENS = 64
_SHOWN_CHARS = 200

Style = tuple[StyleSpan, ...]


@dataclass(frozen=True, slots=True)
class AnnotatorReply:
    """The style spans in a segment, or why the reply was rejected; with the raw reply."""

    style: Style | ReplyFault
    reply: str


class Annotator(Protocol):
    """Marks the style in segments, in at most ``tries`` attempts each."""

    tries: int

    async def mark(self, segment: TextSegment, *, seed: int, problem: str | None) -> AnnotatorReply:
        """Mark the style in ``segment``, in one attempt.

        ``problem`` describes the fault of the previous reply; None in the first attempt.

        Raises:
            EngineError: The servers are unreachable or misconfigured.
            SampleFailed: The servers do not serve this request.
            ConfigError: A user-defined rule failed.
        """


class ModelAnnotator:
    """A strong model behind chat endpoints."""

    tries = 2

    def __init__(self, pool: ChatPool, sampling: Sampling) -> None:
        self._pool = pool
        self._sampling = sampling

    async def mark(self, segment: TextSegment, *, seed: int, problem: str | None) -> AnnotatorReply:
        """Send one request."""
        # A token has at least one byte, so this is enough to list the whole segment twice.
        max_tokens = 2 * len(segment.text.encode("utf-8", "surrogatepass")) + _MARGIN_TOKENS
        request = ChatRequest(
            key=segment.name,
            messages=(Message(role="user", content=prompt(segment.text, problem)),),
            sampling=self._sampling,
            max_tokens=max_tokens,
            seed=seed,
        )
        reply = await self._pool.reply(request)
        if reply.truncated:
            fault = ReplyFault("truncated", f"it was not complete after {max_tokens} tokens")
            return AnnotatorReply(fault, reply.text)
        strings = parse(reply.text)
        return AnnotatorReply(
            strings if isinstance(strings, ReplyFault) else locate_style(segment.text, strings),
            reply.text,
        )


class RuleAnnotator:
    """A user-defined function that lists the style in a text, in order."""

    tries = 1  # the function is deterministic

    def __init__(self, spec: str) -> None:
        """Import the function ``spec`` names, and test it on one line of text."""
        self._name = spec
        self._rule = load_callable(spec, option="rule", signature=_SIGNATURE)
        check_signature(self._rule, spec, ("",), _SIGNATURE)
        self._strings(_TRIAL)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tessy-rule")

    async def mark(self, segment: TextSegment, *, seed: int, problem: str | None) -> AnnotatorReply:
        """Call the function in its own thread."""
        loop = asyncio.get_running_loop()
        strings = await loop.run_in_executor(self._executor, self._strings, segment.text)
        return AnnotatorReply(locate_style(segment.text, strings), repr(strings))

    def close(self) -> None:
        """Stop the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _strings(self, text: str) -> list[str]:
        try:
            returned = self._rule(text)
        except Exception as error:
            raise ConfigError(
                f"the rule {self._name} raised {type(error).__name__}: {error}, for the text "
                f"{text!r:.200}; fix the rule"
            ) from error
        if not isinstance(returned, list) or not all(isinstance(item, str) for item in returned):
            raise ConfigError(
                f"the rule {self._name} returned {returned!r:.100}; return a list of strings, the "
                "style of the text in order"
            )
        return returned


def locate_style(text: str, strings: list[str]) -> Style | ReplyFault:
    """Return the spans of the listed ``strings``; a fault ``not_found`` if one has no match."""
    located = locate(text, strings)
    if not isinstance(located, UnmatchedString):
        return located
    shown = repr(located.string)
    shown = shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "…"
    where = "after the strings listed before it" if located.elsewhere else "as whole words"
    return ReplyFault("not_found", f"{shown} does not occur in the text {where}")
