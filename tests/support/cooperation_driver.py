"""Predictors and a driver that need no event loop, for tests of the state machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

from tessy.boundary.base import BoundaryPredictor, Prediction, PredictionRequest, UnitScore
from tessy.core.edges import units
from tessy.core.records import Author
from tessy.core.seeds import derive_seed
from tessy.inference.base import Request, Sampling
from tessy.inference.scripted import END_THINKING, ByteCodec, ScriptedEngine
from tessy.synthesis.actions import Done, Generate, PredictNext
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.shared_thinking import RoleSpec
from tests.support.engine_streams import iterate

PROMPTS: dict[Author, tuple[int, ...]] = {"student": (1, 2, 3), "teacher": (4,)}


class ReferenceClasses:
    """Returns the true classes of the units of a reference text."""

    name = "reference"

    def __init__(
        self, reference: str, style: Callable[[str], bool], *, sees_next: bool, lookahead=0
    ):
        self.sees_next = sees_next
        self.lookahead = lookahead
        self._end = len(reference)
        self._class: list[float] = []  # P(style) of each character's unit
        for unit in units(reference):
            self._class += [float(style(unit))] * len(unit)

    async def predict(self, request: PredictionRequest) -> Prediction:
        known = len(request.edges) - 1
        if not request.final and not self.sees_next:
            known = max(0, known - self.lookahead)
        scores = tuple(
            UnitScore(p, p, p) for p in (self._class[start] for start in request.edges[:known])
        )
        end = request.edges[-1]
        ahead = self._class[end] if self.sees_next and end < self._end else None
        return Prediction(scores, ahead)

    def release(self, key):
        pass

    async def aclose(self):
        pass


class RandomClasses(ReferenceClasses):
    """Returns a hash of a unit's text as P(style), different for each seed."""

    def __init__(self, seed: int, *, sees_next: bool):
        self.sees_next, self.lookahead, self._seed = sees_next, 0, seed

    def _hash(self, text: str) -> float:
        return derive_seed(self._seed, text) / 2**63

    def score(self, before: str, unit: str) -> UnitScore:
        first = self._hash(before[-5:] if self.sees_next else unit)
        rest = self._hash(unit + "|")
        return UnitScore(first, min(first, rest), max(first, rest))

    async def predict(self, request: PredictionRequest) -> Prediction:
        scores = tuple(
            self.score(request.text[:start], request.text[start:end])
            for start, end in pairwise(request.edges)
        )
        return Prediction(scores, self._hash(request.text[-5:]) if self.sees_next else None)


def stop_of(codec) -> int:
    """Return the id that ends the thinking in tests."""
    return END_THINKING if isinstance(codec, ByteCodec) else min(codec.control_ids)


def make_role(codec, author, predictor: BoundaryPredictor, *, request_tokens=64, redraws=True,
          context=100_000):  # fmt: skip
    return RoleSpec(
        codec=codec,
        prompt=PROMPTS[author],
        stop_ids=frozenset({stop_of(codec)}),
        request_tokens=request_tokens,
        room_tokens=context,
        sees_next=predictor.sees_next,
        redraws=redraws,
    )


def seed_of(author: Author, chars: int, ids: int, redraw: int) -> int:
    return derive_seed(7, author, chars, ids, redraw)


def engine(script, codec, author: Author, chunk_tokens=1) -> ScriptedEngine:
    return ScriptedEngine(
        script, prompt_tokens=len(PROMPTS[author]), codec=codec, chunk_tokens=chunk_tokens
    )


def make(codecs, predictors, *, budget=100_000, cut="discard", **options) -> Cooperation:
    return Cooperation(
        make_role(codecs["student"], "student", predictors["student"], **options),
        make_role(codecs["teacher"], "teacher", predictors["teacher"], **options),
        key="p/0",
        thinking_tokens=budget,
        seed=seed_of,
        cut=cut,
    )


def request_of(generate: Generate) -> Request:
    """Return the request that an attempt sends for ``generate``."""
    return Request(
        "p/0", generate.prompt, Sampling(), generate.max_tokens, generate.stop_ids, generate.seed
    )


async def step(
    machine: Cooperation,
    action: PredictNext | Generate,
    engines,
    predictors,
    *,
    after_chunk=lambda: None,
) -> None:
    """Perform an action as the driver does; call ``after_chunk`` after chunks of a stream."""
    predictor = predictors[action.author]
    if isinstance(action, PredictNext):
        machine.predicted_next(await predictor.predict(action.request))
        return
    stream = iterate(engines[action.author], request_of(action))
    async for chunk in stream:
        machine.receive(chunk)
        while (prediction_request := machine.pending_prediction()) is not None:
            machine.apply_prediction(
                prediction_request, await predictor.predict(prediction_request)
            )
        if machine.over:
            break
        after_chunk()
    await stream.aclose()
    machine.closed()


def run(machine: Cooperation, engines, predictors, *, each=None, limit=10_000) -> Done:
    async def go() -> Done:
        for _ in range(limit):
            if each is not None:
                each(machine)
            action = machine.next()
            if isinstance(action, Done):
                return action
            await step(machine, action, engines, predictors)
        raise AssertionError(f"no end after {limit} moves")

    return asyncio.run(go())


def both(value) -> dict[Author, object]:
    return {"student": value, "teacher": value}


CODECS: dict[Author, ByteCodec] = {
    "student": ByteCodec([b"Ok", b" s", b"\xe4\xb8", b"\n\nW"]),
    "teacher": ByteCodec([b"ay,", b" x"]),
}


def alone(script, *, teacher=None, predictors=None, **options):
    """Return a machine, engines and predictors; without ``teacher``, both use ``script``."""
    predictors = predictors or both(Always(1.0))
    engines = {
        "student": engine(script, CODECS["student"], "student"),
        "teacher": engine(teacher or script, CODECS["teacher"], "teacher"),
    }
    machine = make(CODECS, predictors, **options)
    return machine, engines, predictors


class Always(ReferenceClasses):
    """Returns the same P(style) for every unit."""

    def __init__(self, p, *, sees_next=False):
        self._p, self.sees_next, self.lookahead = p, sees_next, 0

    async def predict(self, request):
        score = UnitScore(self._p, self._p, self._p)
        return Prediction((score,) * (len(request.edges) - 1), self._p if self.sees_next else None)


def in_parts(codec, *parts):
    """Return a script that generates the next part at each call, for any text."""
    queue = list(parts)

    def script(text, seed):
        part = queue.pop(0)
        ids: list[int] = []
        for piece in part if isinstance(part, tuple) else (part,):
            ids += codec.encode(piece) if isinstance(piece, str) else [piece]
        return ids

    return script
