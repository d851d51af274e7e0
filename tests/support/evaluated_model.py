"""A served model for tests of evaluations, which answers each problem with a given text."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.support.model_server import FakeServer, Script
from tests.synthesis.test_sample import FAMILIES, RENDERERS
from tests.synthesis.test_single_model import model_script

FAMILY = "qwen3"
FOLDER = FAMILIES / FAMILY  # of its tokenizer
_RENDERER = RENDERERS[FAMILY]
_OPENING = (_RENDERER.shape.suffix or _RENDERER.shape.opening).encode()


class Reply(NamedTuple):
    """A response; ``end`` and ``last`` are control tokens that end thinking and answer."""

    answer: str
    thinking: str = "Okay."
    end: str | None = None
    last: str | None = None


def answering(reply: Callable[[str], Reply]) -> Script:
    """Return a script of a model that answers a problem (its last user turn) with a reply."""

    def script(ids: list[int], seed: int) -> list[int]:
        data = b"".join(map(_RENDERER.codec.token_bytes, ids))
        prompt, so_far, written = data.rpartition(_OPENING)
        if not so_far:  # of a probe
            return []
        turn = prompt.rpartition(b"<|im_start|>user\n")[2]
        found = reply(turn.partition(b"<|im_end|>")[0].decode())
        write = model_script(
            FAMILY,
            thinking=f"\n{found.thinking}\n",
            answer=found.answer,
            end=found.end,
            last=found.last,
        )
        return list(write(written, seed))

    return script


def serve(reply: Callable[[str], Reply], *, token_seconds: float = 0.0) -> FakeServer:
    """Return a server with such a model."""
    return FakeServer(
        answering(reply),
        codec=_RENDERER.codec,
        eos=min(_RENDERER.answer_stop_ids),
        tokens_per_event=16,
        token_seconds=token_seconds,
    )
