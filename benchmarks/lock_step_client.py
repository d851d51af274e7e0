"""The usual client of two models: all samples of a batch advance in steps.

Follows the defaults of the client released with arXiv 2604.14164: 5 tokens a step from the student
and 10 from the teacher, the complete text as every prompt, a classifier that reads the last 200
tokens of each sample, answers inside the step. It is faster than that client in two ways: a sample
that ends is replaced at once, and the classifier takes as long as that of the cooperation.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.cooperation_client import Plan
from benchmarks.measurement import ClientCounters, Measured, measure
from benchmarks.scheduled_predictor import Oracle
from benchmarks.server_access import Servers
from benchmarks.workload import Workload, problems, starting_point
from tessy.boundary.classifier.predictor import MAX_BATCH
from tessy.core.edges import EdgeCursor, cursor_before, edges
from tessy.core.records import Author, other
from tessy.tokenization.renderer import Renderer
from tessy.tokenization.token_ids import decode

STEP_TOKENS: dict[Author, int] = {"student": 5, "teacher": 10}
WINDOW_TOKENS = 200


@dataclass
class _Sample:
    """A sample in flight.

    Attributes:
        key: Key of the sample in requests.
        prompts: The problem in each model's format, as text.
        text: The thinking so far.
        author: Author of the next tokens.
        base: Start of the search for edges.
    """

    key: str
    prompts: dict[Author, str]
    text: str = ""
    author: Author = "student"
    base: EdgeCursor = EdgeCursor(0)  # noqa: RUF009 - a tuple


class LockStep:
    """A batch of samples and its steps."""

    def __init__(
        self,
        servers: Servers,
        renderers: dict[Author, Renderer],
        plan: Plan,
        counters: ClientCounters,
    ) -> None:
        """Create a batch of samples at random progress."""
        self._servers, self._renderers = servers, renderers
        self._plan, self._counters = plan, counters
        self._classes = Oracle(renderers["student"].codec)
        self._sent = self._read = 0
        self._new = self._samples(plan.workload)
        counters.requests = lambda: self._sent
        counters.predictor_tokens = lambda: self._read
        self._batch = [next(self._new) for _ in range(plan.concurrency)]
        for index, sample in enumerate(self._batch):
            point = starting_point(index, plan.workload, renderers["student"])
            sample.text, sample.author = point.text, point.author

    def _samples(self, workload: Workload) -> Iterator[_Sample]:
        for problem in problems(workload):
            prompts = {
                author: decode(renderer.codec, renderer.prompt_ids(problem.messages))
                for author, renderer in self._renderers.items()
            }
            yield _Sample(problem.id, prompts)

    async def step(self) -> None:
        """Draft and classify for all samples, and write the answers of those that ended."""
        drafts = await asyncio.gather(*map(self._draft, self._batch))
        await self._classify()
        ended = [
            self._keep(sample, *draft) for sample, draft in zip(self._batch, drafts, strict=True)
        ]
        await asyncio.gather(
            *(self._answer(s) for s, end in zip(self._batch, ended, strict=True) if end)
        )
        self._batch = [
            next(self._new) if end else sample
            for sample, end in zip(self._batch, ended, strict=True)
        ]

    async def _draft(self, sample: _Sample) -> tuple[str, int, bool]:
        """Return new text, its tokens, and whether the model ended there."""
        self._sent += 1
        reply = await self._servers.complete(
            sample.author,
            sample.key,
            sample.prompts[sample.author] + sample.text,
            max_tokens=STEP_TOKENS[sample.author],
        )
        text = reply.text if sample.text else reply.text.lstrip()
        self._counters.received += reply.tokens
        return text, reply.tokens - reply.ended, reply.ended

    async def _classify(self) -> None:
        """Wait for as long as both classifiers take for their parts of the batch."""
        self._read += len(self._batch) * WINDOW_TOKENS
        counts = Counter(sample.author for sample in self._batch)
        batches = max(math.ceil(count / MAX_BATCH) for count in counts.values())
        await asyncio.sleep(batches * self._plan.predictor_delay_seconds * self._plan.slow_down)

    def _keep(self, sample: _Sample, draft: str, tokens: int, ended: bool) -> bool:
        """Keep the text in the author's class; return whether the thinking has ended."""
        before = len(sample.text)
        text = sample.text + draft
        sample.base = cursor_before(sample.text, sample.base, before)
        offset = sample.base.offset
        found = [offset + e for e in edges(text[offset:], long=sample.base.long)]
        starts = [before, *(edge for edge in found if before < edge < len(text))]
        cut = len(text)
        for place in starts if draft else ():
            p_style = self._classes.class_at(text, place)
            writer: Author = "student" if p_style is None or p_style >= 0.5 else "teacher"
            if writer != sample.author:
                cut = place
                break
        share = (cut - before) / max(1, len(draft))
        self._counters.kept[sample.author] += round(tokens * share)
        sample.text = text[:cut]
        if cut < len(text):
            sample.author = other(sample.author)
            return False
        return ended

    async def _answer(self, sample: _Sample) -> None:
        self._sent += 1
        reply = await self._servers.complete(
            "student",
            sample.key,
            sample.prompts["student"] + sample.text + "\n</think>\n\n",
            max_tokens=4 * self._plan.workload.answer_tokens,
        )
        self._counters.kept["student"] += reply.tokens


async def run_lock_step(
    servers: Servers, renderers: dict[Author, Renderer], plan: Plan
) -> Measured:
    """Step a batch of ``plan.concurrency`` samples and measure a window."""
    counters = ClientCounters()
    batch = LockStep(servers, renderers, plan, counters)

    async def step_forever() -> None:
        while True:
            await batch.step()

    async with asyncio.TaskGroup() as tasks:
        steps = tasks.create_task(step_forever())
        measured = await measure(
            counters, servers, warm_up_seconds=plan.warm_up_seconds, seconds=plan.seconds
        )
        steps.cancel()
    return measured
