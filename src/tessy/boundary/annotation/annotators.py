"""Annotators, which list the style in a segment: a strong model, or a user-defined function."""

from __future__ import annotations

from tessy.boundary.annotation.instruction import ReplyFault, parse, prompt
from tessy.boundary.annotation.locate import UnmatchedString, locate
from tessy.boundary.annotation.segments import TextSegment
from tessy.boundary.callables import UserRule
from tessy.core.errors import ConfigError
from tessy.core.records import Message, StyleSpan
from tessy.inference.base import Sampling
from tessy.inference.chat import ChatPool, ChatRequest

_SIGNATURE = "(text: str) -> list[str]"
_TRIAL = "Okay, so 3 + 4 = 7."
_MARGIN_TOKENS = 64
_SHOWN_CHARS = 200

Style = tuple[StyleSpan, ...]


class ModelAnnotator:
    """A strong model behind chat endpoints."""

    tries = 2  # for one segment

    def __init__(self, pool: ChatPool, sampling: Sampling) -> None:
        self._pool = pool
        self._sampling = sampling

    async def mark(self, segment: TextSegment, *, seed: int, problem: str | None) -> Style:
        """Mark the style in ``segment``, in one attempt.

        ``problem`` describes the fault of the previous reply; None in the first attempt.

        Raises:
            EngineError: The servers are unreachable or misconfigured.
            ReplyFault: The reply was rejected.
            SampleFailed: The servers do not serve this request.
        """
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
            fault = f"it was not complete after {max_tokens} tokens"
            raise ReplyFault("truncated", fault, reply.text)
        return _locate_style(segment.text, parse(reply.text), reply.text)


class RuleAnnotator(UserRule):
    """A user-defined function that lists the style in a text, in order."""

    tries = 1  # the function is deterministic

    def __init__(self, spec: str) -> None:
        """Import the function ``spec`` names, and test it on one line of text."""
        super().__init__(spec, option="rule", signature=_SIGNATURE, trial=("",))
        self._strings(_TRIAL)

    async def mark(self, segment: TextSegment, *, seed: int, problem: str | None) -> Style:
        """Mark the style in ``segment``; raises ReplyFault, or ConfigError if the rule failed."""
        strings = await self._in_thread(self._strings, segment.text)
        return _locate_style(segment.text, strings, repr(strings))

    def _strings(self, text: str) -> list[str]:
        returned = self._call(text, shown=f"the text {text!r:.200}")
        if not isinstance(returned, list) or not all(isinstance(item, str) for item in returned):
            raise ConfigError(
                f"the rule {self.name} returned {returned!r:.100}; return a list of strings, the "
                "style of the text in order"
            )
        return returned


Annotator = ModelAnnotator | RuleAnnotator


def _locate_style(text: str, strings: list[str], reply: str) -> Style:
    """Return the spans of the ``strings`` that ``reply`` lists."""
    located = locate(text, strings)
    if not isinstance(located, UnmatchedString):
        return located
    shown = repr(located.string)
    shown = shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "…"
    where = "after the strings listed before it" if located.elsewhere else "as whole words"
    raise ReplyFault("not_found", f"{shown} does not occur in the text {where}", reply)
