"""``restyle``: a trace's capability word for word, with style by the student (experimental).

TESSY decides who writes what while both models generate. Here the teacher's text exists, so a rule
that reads written text splits it, and the student writes style only where the teacher had some. The
style must fit what follows it, so it is chosen from several candidates by the likelihood of what
follows (:mod:`tessy.synthesis.restyling.choice`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import SampleFailed
from tessy.core.formatting import counted
from tessy.core.records import Author, Problem, Restyling, TeacherTrace, Trajectory
from tessy.storage.problems import UnusableProblem
from tessy.synthesis.actions import Generate
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.response_writer import ResponseWriter
from tessy.synthesis.restyling.choice import choose, fits
from tessy.synthesis.restyling.draft import Candidate, StyleDraft
from tessy.synthesis.restyling.estimate import split, splitter_name
from tessy.synthesis.restyling.split import Place, blank_end
from tessy.synthesis.restyling.thinking import (
    RestyledPart,
    RestyledThinking,
    joined,
    keeps_in_order,
    part_from_json,
    part_to_json,
)
from tessy.synthesis.shared_thinking import GeneratedResponse, RoleSpec
from tessy.synthesis.strategies.base import Strategy, generated_by

MOST_CANDIDATES = 32  # of a place where none fits
MOST_END_DRAWS = 9  # until the student ends its thinking itself

Part = Mapping[str, Any]


async def restyle(attempt: SampleAttempt) -> Trajectory:
    """Write the thinking place by place, then the answer.

    Raises:
        SampleFailed: ``no_capability``, ``no_fitting_style`` or ``capability_lost``, and the usual
            reasons.
    """
    trace = attempt.problem.trace
    assert trace is not None  # load_traces gives every problem one
    # Also of a row that fails before the split: a resume compares the digest.
    split_by = splitter_name(trace, attempt.context.predictors["student"])
    attempt.extras = {"restyle": Restyling(trace=trace.digest, split_by=split_by)}
    writer = ResponseWriter(attempt, attempt.problem.messages, ("student",))
    restyler = await _Restyler.of(attempt, trace, writer)
    ended_by = await restyler.write()
    if not attempt.context.keeps_answer:
        await writer.answer()
        return attempt.trajectory(ended_by)
    assert trace.answer  # `_check` refuses others
    thinking = restyler.thinking.thinking_result()
    ids = attempt.context.format.codec.encode(trace.answer)
    attempt.meter.drafted["teacher"] += len(ids)  # as if generated: a row's answer is none of these
    return attempt.trajectory(ended_by, GeneratedResponse(thinking, trace.answer, ids, "teacher"))


@dataclass
class _Restyler:
    """The thinking of one attempt."""

    attempt: SampleAttempt
    role: RoleSpec
    places: Sequence[Place]
    thinking: RestyledThinking
    thinking_tokens: int  # maximum
    report: Restyling

    @classmethod
    async def of(
        cls, attempt: SampleAttempt, trace: TeacherTrace, writer: ResponseWriter
    ) -> _Restyler:
        """Split the trace; raises SampleFailed if nothing of it is capability."""
        context, backend = attempt.context, attempt.context.backends["student"]
        predictor = context.predictors["student"]
        report: Restyling = attempt.extras["restyle"]
        places = await split(attempt.key, trace, predictor, context.cut)
        if not any(place.capability.strip() for place in places):
            raise SampleFailed(
                "no_capability", f"{report.split_by} takes the whole trace for style"
            )
        codec, prompt = backend.renderer.codec, writer.prompts["student"]
        role = RoleSpec(
            codec=codec,
            prompt=prompt,
            stop_ids=backend.renderer.thinking_stop_ids,
            request_tokens=backend.request_tokens,
            room_tokens=writer.limits.available["student"],
            sees_next=predictor.sees_next,
            redraws=backend.sampling.temperature > 0,
        )
        thinking = RestyledThinking(codec, prompt)
        return cls(attempt, role, places, thinking, writer.limits.thinking, report)

    async def write(self) -> Author:
        """Write the thinking; return who ended it."""
        attempt = self.attempt
        attempt.thinker = self.thinking
        attempt.begin_parts()
        for number, place in enumerate(self.places):
            if not place.style:
                self.thinking.append(self._capability(self.thinking.text, place))
            elif place.capability:
                await self._finish(partial(self._write_place, number, place))
        closing = self.places[-1].style if not self.places[-1].capability else ""
        end = await self._finish(partial(self._write_end, closing))
        self.thinking.finish()
        if not keeps_in_order(self.thinking.text, (place.capability for place in self.places)):
            raise SampleFailed("capability_lost", "words of the trace are missing or out of order")
        author: Author = end["ended_by"]
        return author

    async def _finish(self, make: Callable[[], Awaitable[Part]]) -> Part:
        """Make the next part, or take the saved one; append its text and count it."""
        self.attempt.checkpoint()
        saved_before = self.attempt.has_saved_part
        part = await self.attempt.part(make)
        before = len(self.thinking)
        for saved in part["parts"]:
            self.thinking.append(part_from_json(saved))
        self.attempt.thinker = self.thinking  # dropped where a part is saved
        if not saved_before:  # an earlier session counted the saved part
            self.attempt.progress.kept("student", len(self.thinking) - before)
        report = self.report
        added = {name: getattr(report, name) + part[name] for name in ("empty", "unfit")}
        added["scored_tokens"] = report.scored_tokens + part["scored"]
        if "ended_by" in part:
            added["end_draws"] = part["draws"]
        else:
            added["draws"] = (*report.draws, part["draws"])
            added["effective"] = (*report.effective, part["effective"])
        self.report = report.model_copy(update=added)
        self.attempt.extras = {"restyle": self.report}
        if self._room < 0:
            raise self._budget()
        return part

    @property
    def _room(self) -> int:
        """Tokens that the thinking may still take; negative if it has too many."""
        return self.thinking_tokens - len(self.thinking)

    def _budget(self) -> SampleFailed:
        return SampleFailed("budget", f"the thinking reached {self.thinking_tokens} tokens")

    async def _write_place(self, number: int, place: Place) -> Part:
        """Choose the style of a place by the likelihood of the capability after it."""
        count = self.attempt.context.candidates
        candidates: list[Candidate] = []
        logprobs: dict[RestyledPart, float] = {}
        own = self._of_trace(place.style)
        scored = 0
        if len(self._capability(self.thinking.text, place).ids) > self._room:
            raise self._budget()
        while True:
            candidates += await self._draw(str(number), len(candidates), count)
            if self.attempt.context.candidates == 1:
                return self._part(place, candidates[0].part, draws=1, effective=1.0)
            new = {c.part: None for c in candidates if c.whole} | {own: None}
            scored += await self._score([p for p in new if p not in logprobs], place, logprobs)
            # Style that the longest request cuts would stop in the middle of a sentence.
            draws = [logprobs[c.part] if c.whole else -math.inf for c in candidates]
            fit = any(fits(logprob, logprobs[own]) for logprob in draws)
            if fit or not self.role.redraws or count >= MOST_CANDIDATES:
                break
            count = min(2 * count, MOST_CANDIDATES)
        choice = choose(draws, self.attempt.seed("restyle", number, "choice"))
        chosen = candidates[choice.number].part
        if not fit:
            self._refuse_unfit(
                f"none of {count} candidates fits what follows at place {number + 1}"
            )
            chosen = own
        return self._part(
            place, chosen, draws=count, effective=choice.effective, unfit=not fit, scored=scored
        )

    async def _write_end(self, closing: str) -> Part:
        """Redraw what follows the last capability until the student ends its thinking itself."""
        most = MOST_END_DRAWS if self.role.redraws else 1
        for number in range(most):
            (candidate,) = await self._draw("end", number, number + 1)
            if candidate.ends:
                part = self._part(Place(closing, ""), candidate.part, draws=number + 1)
                return {**part, "ended_by": "student"}
        self._refuse_unfit(f"the student did not end its thinking in {counted(most, 'draw')}")
        own = self._of_trace(closing)
        part = self._part(Place(closing, ""), own, draws=most, unfit=True)
        return {**part, "ended_by": "teacher"}

    async def _draw(self, place: str, first: int, count: int) -> list[Candidate]:
        """Draw candidates ``first`` to ``count`` (exclusive) of a place."""
        attempt, role = self.attempt, self.role
        if self._room <= 0:
            raise self._budget()
        drafts = [
            StyleDraft(role, self.thinking, key=attempt.key, cut=attempt.context.cut)
            for _ in range(first, count)
        ]
        requests = [
            Generate(
                author="student",
                prompt=self.thinking.ids,
                max_tokens=min(role.request_tokens, self._room),
                stop_ids=tuple(sorted(role.stop_ids)),
                seed=attempt.seed("restyle", place, "draw", number),
            )
            for number in range(first, count)
        ]
        await attempt.draw(list(zip(drafts, requests, strict=True)))
        return [draft.candidate() for draft in drafts]

    async def _score(
        self, styles: Sequence[RestyledPart], place: Place, logprobs: dict[RestyledPart, float]
    ) -> int:
        """Add the log-likelihoods of the capability after each style; return the tokens read.

        A style that leaves no room for the capability gets minus infinity.
        """
        prefix = list(self.thinking.ids.ids)
        texts = {}
        for style in styles:
            following = self._capability(self.thinking.text + style.text, place)
            logprobs[style] = -math.inf
            if len(style.ids) + len(following.ids) <= self._room:
                ids = [*prefix, *style.ids, *following.ids]
                texts[style] = (ids, len(prefix) + len(style.ids))
        scores = await self.attempt.score(list(texts.values()))
        logprobs.update(zip(texts, scores, strict=True))
        return sum(len(ids) - len(prefix) for ids, _ in texts.values())

    def _capability(self, before: str, place: Place) -> RestyledPart:
        text = joined(before, blank_end(place.style), place.capability)
        return self.thinking.encoded("teacher", text)

    def _of_trace(self, style: str) -> RestyledPart:
        """Return the trace's own words of a place, without the white space that follows them."""
        text = joined(self.thinking.text, "", style.rstrip()) if style.strip() else ""
        return self.thinking.encoded("teacher", text)

    def _part(
        self,
        place: Place,
        style: RestyledPart,
        *,
        draws: int,
        effective: float = 0.0,
        unfit: bool = False,
        scored: int = 0,
    ) -> Part:
        """Return the finished part of a place: its style, its capability, and the counts."""
        capability = self._capability(self.thinking.text + style.text, place)
        parts = [style, capability] if place.capability else [style]
        return {
            "parts": [part_to_json(part) for part in parts if part.text],
            "draws": draws,
            "effective": round(effective, 3),
            "empty": int(not style.text and not unfit and bool(place.capability)),
            "unfit": int(unfit),
            "scored": scored,
        }

    def _refuse_unfit(self, why: str) -> None:
        if self.attempt.context.unfit == "fail":
            raise SampleFailed("no_fitting_style", why)


def _check(options: SynthesisOptions, problem: Problem) -> UnusableProblem | None:
    if options.answer_by != "trace" or problem.trace is None or problem.trace.answer:
        return None
    return UnusableProblem("answer", "expected an answer after the thinking for --answer-by trace")


STRATEGY = Strategy(
    name="restyle",
    make=restyle,
    models=generated_by("student"),
    thinking_by="both",
    answer_by="student",
    how="Experimental. The capability of an existing trace, word for word; the student writes the "
    "style between it, chosen by how well it fits what follows, and the answer.",
    reads_traces=True,
    candidates=8,
    answers=("student", "trace"),
    options=frozenset({"answer_by", "candidates", "traces", "unfit", "allow_classifier"}),
    check=_check,
)
