"""Who lists the style in a segment: a strong model, or a function of the user's."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tessy.boundary.annotation.instruction import ReplyFault, parse, prompt
from tessy.boundary.annotation.locate import Unplaced, locate
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
class Marked:
    """What an annotator said of a segment.

    Attributes:
        style: Its style spans, or why the reply is of no use.
        reply: As it came.
    """

    style: Style | ReplyFault
    reply: str


class Annotator(Protocol):
    """Lists the style in segments.

    Attributes:
        tries: Times it makes sense to ask.
    """

    tries: int

    async def mark(self, segment: TextSegment, *, seed: int, problem: str | None) -> Marked:
        """Ask once.

        Args:
            segment: What to mark.
            seed: Fixes the draw.
            problem: What was wrong with the reply before; None at first.

        Raises:
            EngineError: The servers are gone or misconfigured.
            SampleFailed: The servers do not serve this request.
            ConfigError: A user's rule failed.
        """
        ...


class ModelAnnotator:
    """A strong model behind chat endpoints."""

    tries = 2

    def __init__(self, pool: ChatPool, sampling: Sampling) -> None:
        """Ask the servers of ``pool``."""
        self._pool = pool
        self._sampling = sampling

    async def mark(self, segment: TextSegment, *, seed: int, problem: str | None) -> Marked:
        """Ask once."""
        # A token holds at least a byte, so a reply may list the whole segment twice.
        most = 2 * len(segment.text.encode("utf-8", "surrogatepass")) + _MARGIN_TOKENS
        request = ChatRequest(
            key=f"{segment.id}/{segment.sample}/{segment.segment}",
            messages=(Message(role="user", content=prompt(segment.text, problem)),),
            sampling=self._sampling,
            max_tokens=most,
            seed=seed,
        )
        reply = await self._pool.ask(request)
        if reply.truncated:
            fault = ReplyFault("truncated", f"it was not complete after {most} tokens")
            return Marked(fault, reply.text)
        strings = parse(reply.text)
        return Marked(
            strings if isinstance(strings, ReplyFault) else place(segment.text, strings), reply.text
        )


class RuleAnnotator:
    """A function of the user's that lists the style in a text, in order."""

    tries = 1  # it would say the same again

    def __init__(self, spec: str) -> None:
        """Import the function ``spec`` names, and try it on one line of text.

        Raises:
            ConfigError: It cannot be imported or called, or lists something else than strings.
        """
        self._name = spec
        self._rule = load_callable(spec, option="rule", signature=_SIGNATURE)
        check_signature(self._rule, spec, ("",), _SIGNATURE)
        self._strings(_TRIAL)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tessy-rule")

    async def mark(self, segment: TextSegment, *, seed: int, problem: str | None) -> Marked:
        """Ask once, in a thread of the rule's own."""
        loop = asyncio.get_running_loop()
        strings = await loop.run_in_executor(self._thread, self._strings, segment.text)
        return Marked(place(segment.text, strings), repr(strings))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _strings(self, text: str) -> list[str]:
        try:
            answer = self._rule(text)
        except Exception as error:
            raise ConfigError(
                f"the rule {self._name} raised {type(error).__name__}: {error}, for the text "
                f"{text!r:.200}; mend the rule"
            ) from error
        if not isinstance(answer, list) or not all(isinstance(item, str) for item in answer):
            raise ConfigError(
                f"the rule {self._name} returned {answer!r:.100}; return a list of strings, the "
                "style of the text in order"
            )
        return answer


def place(text: str, strings: list[str]) -> Style | ReplyFault:
    """The spans of the listed ``strings``; a fault ``not_found`` that names one without a place."""
    found = locate(text, strings)
    if not isinstance(found, Unplaced):
        return found
    shown = repr(found.string)
    shown = shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "…"
    where = "after the strings listed before it" if found.elsewhere else "as whole words"
    return ReplyFault("not_found", f"{shown} does not occur in the text {where}")
