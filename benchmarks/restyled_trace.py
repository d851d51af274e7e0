"""A long trace, and a scripted student with a prefix cache that counts what a server computes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tessy.boundary.lexicon import LexiconPredictor
from tessy.boundary.phrases import Phrases
from tessy.core.records import Message, Problem, TeacherTrace
from tessy.inference.base import Chunk, ChunkSink, Request, Sampling, ScoredToken
from tessy.inference.scripted import ScriptedEngine
from tessy.lab.bundled import student_path
from tessy.synthesis.context import RoleBackend, SynthesisContext
from tessy.tokenization.families import load_renderer

BLOCK_TOKENS = 16
IN_FLIGHT_TOKENS = 1  # generated after a close: the step that the server is in
# Style of about 9 tokens before capability of about 28: assumed, as in the other benchmarks.
_OPENINGS = ("Okay,", "Hmm,", "Wait,", "Okay, so", "Hmm, so", "Alright,", "Okay, wait,", "So,")
_ENDINGS = (
    "let me think about this.", "let me see.", "let's see.", "let me check.", "let me think.",
    "let me double-check.", "let me check that.", "let me think again.",
)  # fmt: skip
_CAPABILITY_WORDS = 9

RENDERER = load_renderer(student_path())


def long_trace(tokens: int) -> Problem:
    """Return a problem whose trace has about ``tokens`` tokens."""
    rng = Random(0)
    parts: list[str] = []
    length = 0
    while length < tokens:
        style = _style(rng)
        numbers = (f"{rng.randrange(10)}x{rng.randrange(10)}" for _ in range(_CAPABILITY_WORDS))
        parts.append(f"{style} {' '.join(numbers)}.\n")
        length += len(RENDERER.codec.encode(parts[-1]))
    message = Message(role="user", content="What is it?")
    trace = TeacherTrace(thinking="".join(parts).strip(), answer="It is 1.")
    return Problem(id="trace", messages=(message,), trace=trace)


def _style(rng: Random) -> str:
    return f"{rng.choice(_OPENINGS)} {rng.choice(_ENDINGS)}"


class CachedStudent(ScriptedEngine):
    """Writes style, then a number; counts prompt tokens that no earlier request has computed.

    Attributes:
        prefilled: Prompt tokens computed, those of scores included.
        generated: Tokens generated, including those in flight at a close.
    """

    def __init__(self) -> None:
        super().__init__(self._write, prompt_tokens=0, codec=RENDERER.codec)
        self.prefilled = self.generated = 0
        self._blocks: set[int] = set()

    def _write(self, text: bytes, seed: int) -> list[int]:
        written = text.decode("utf-8", "replace")
        rng = Random(seed)
        if "</think>" in written:
            return [*RENDERER.codec.encode("So it is 1."), min(RENDERER.answer_stop_ids)]
        gap = "" if written[-1:].isspace() else " "
        style = RENDERER.codec.encode(f"{gap}{_style(rng)}")
        if rng.random() < 0.5:
            return [*style, min(RENDERER.thinking_stop_ids)]
        return [*style, *RENDERER.codec.encode(" 7x7 7x7 7x7 7x7")]

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Deliver a draft; its prompt and its tokens are cached."""
        ids = list(request.prompt.ids)
        self._read(ids)
        drawn: list[int] = []
        inner = ChunkSink(lambda chunk: self._pass_on(chunk, drawn, sink))
        sink.on_close = inner.close
        await super().stream(request, inner)
        sink.on_close = None
        self.generated += len(drawn) + IN_FLIGHT_TOKENS
        self._keep([*ids, *drawn])

    @staticmethod
    def _pass_on(chunk: Chunk, drawn: list[int], sink: ChunkSink) -> None:
        drawn += chunk.ids
        sink.put(chunk)

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = 1
    ) -> list[ScoredToken]:
        """Return equal scores; the text is cached."""
        self._read(ids)
        self.generated += 1
        return [ScoredToken(-1.0, 1, ()) for _ in ids[start:]]

    def _read(self, ids: Sequence[int]) -> None:
        cached = 0
        for end, block in _chain(ids):
            if block not in self._blocks:
                break
            cached = end
        self.prefilled += len(ids) - min(cached, (len(ids) - 1) // BLOCK_TOKENS * BLOCK_TOKENS)
        self._keep(ids)

    def _keep(self, ids: Sequence[int]) -> None:
        self._blocks.update(block for _, block in _chain(ids))


def _chain(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return end and identity of each full block, which includes everything before it."""
    blocks, before = [], 0
    for end in range(BLOCK_TOKENS, len(ids) + 1, BLOCK_TOKENS):
        before = hash((before, tuple(ids[end - BLOCK_TOKENS : end])))
        blocks.append((end, before))
    return blocks


def context_of(student: CachedStudent, candidates: int) -> SynthesisContext:
    """Return a context in which ``student`` restyles with the lexicon."""
    backend = RoleBackend(RENDERER, student, Sampling(), context_tokens=262_144)
    return SynthesisContext(
        backends={"student": backend},
        strategy="restyle",
        answering="student",
        thinking_tokens=200_000,
        answer_tokens=6_000,
        seed=0,
        predictors={"student": LexiconPredictor(Phrases.load(None))},
        candidates=candidates,
    )
