"""The worker thread of the in-process model: batches of streams, and their caches.

All streams advance together: each turn drops closed streams, admits waiting ones, and takes one
step with every active one, a chunk of its prompt or one new token.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence

from transformers import PreTrainedModel

from tessy.core.errors import EngineError, EngineRefused, EngineUnavailable
from tessy.inference.base import Chunk
from tessy.inference.local.jobs import (
    PREFILL_TOKENS,
    JobState,
    LocalJob,
    batches,
    common_prefix,
    model_failure,
)
from tessy.inference.local.model import make_decoder, vocabulary_size
from tessy.inference.local.sampling import Draw, draw

_CPU_SLACK = 64  # padding tokens that cost less than one more forward pass
_GPU_SLACK = 512

Delivery = tuple[LocalJob, Chunk | EngineError]


class Batcher:
    """Owns the decoder; ``submit``, ``release`` and ``close`` are thread-safe."""

    def __init__(self, model: PreTrainedModel, max_batch: int, cache_tokens: int | None) -> None:
        self._decoder = make_decoder(model, cache_tokens)
        self.capacity_tokens = self._decoder.capacity
        self._max_batch = max_batch
        self.context_tokens: int | None = getattr(
            model.config.get_text_config(), "max_position_embeddings", None
        )
        self._vocabulary = vocabulary_size(model)
        self._eos_ids = _eos_ids(model)
        self._slack = _CPU_SLACK if model.device.type == "cpu" else _GPU_SLACK
        self._condition = threading.Condition()
        self._inbox: deque[LocalJob | str] = deque()  # jobs, and keys to release
        self._closing = False
        self._waiting: deque[LocalJob] = deque()
        self._active: list[LocalJob] = []
        self._states: dict[str, JobState] = {}
        self._steps = 0
        self._outbox: dict[asyncio.AbstractEventLoop, list[Delivery]] = {}
        self._thread = threading.Thread(target=self._run, name="tessy-local-engine", daemon=True)
        self._thread.start()

    def submit(self, job: LocalJob) -> None:
        """Queue ``job``; raises EngineUnavailable if the engine was closed."""
        with self._condition:
            if self._closing:
                raise EngineUnavailable("the in-process engine was closed")
            self._inbox.append(job)
            self._condition.notify()

    def release(self, key: str) -> None:
        """Forget the sequence of ``key``."""
        with self._condition:
            self._inbox.append(key)
            self._condition.notify()

    def close(self) -> None:
        """End the thread after its current step and wait for it; open streams fail."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._collect():
            try:
                self._turn()
            # Every error must reach the streams: if the thread died, they would wait forever.
            except Exception as error:
                self._fail_active(error)
            self._post()
        for job in (*self._active, *self._waiting):
            self._send(job, EngineUnavailable("the in-process engine was closed"))
        self._post()

    def _collect(self) -> bool:
        """Wait for jobs and queue them; return False when closing."""
        with self._condition:
            while not (self._closing or self._inbox or self._active or self._waiting):
                self._condition.wait()
            received = list(self._inbox)
            self._inbox.clear()
            closing = self._closing
        for item in received:
            if isinstance(item, LocalJob):
                self._waiting.append(item)
            else:
                self._forget(item)
        return not closing

    def _turn(self) -> None:
        self._steps += 1
        for job in [job for job in self._active if job.closed]:
            self._leave(job)
        while self._waiting and len(self._active) < self._max_batch:
            job = self._waiting.popleft()
            if not job.closed:
                self._admit(job)
        step = []
        for job in self._active:
            read = len(job.state.sequence.ids)
            step.append((job, job.ids[read : read + PREFILL_TOKENS]))
        step = self._make_room(step)
        for members in batches(step, self._slack):
            self._advance(members)

    def _admit(self, job: LocalJob) -> None:
        """Assign the sample's sequence to ``job``, rolled back to the shared prefix."""
        key = job.request.key
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = JobState(self._decoder.new())
        elif state.busy:  # a second stream of the same sample at the same time
            state = JobState(self._decoder.new(), doomed=True)
        state.busy = True
        job.state = state
        self._active.append(job)
        shared = common_prefix(state.sequence.ids, job.ids)
        # The last id is always read, because its logits are needed.
        shared = self._decoder.rollback(state.sequence, min(shared, len(job.ids) - 1))
        new = job.ids[shared:]
        if not 0 <= min(new) <= max(new) < self._vocabulary:
            self._leave_failed(
                job,
                EngineRefused(
                    f"{key}: the prompt has ids from {min(new)} to {max(new)}, the model has "
                    f"0 to {self._vocabulary - 1}; is it encoded with its tokenizer?"
                ),
            )

    def _leave(self, job: LocalJob) -> None:
        """Deactivate ``job``; its sequence stays for the next request of the sample."""
        self._active.remove(job)
        state = job.state
        state.busy = False
        state.used = self._steps
        if state.doomed:
            self._decoder.rollback(state.sequence, 0)

    def _forget(self, key: str) -> None:
        state = self._states.pop(key, None)
        if state is None:
            return
        state.doomed = True
        if not state.busy:
            self._decoder.rollback(state.sequence, 0)

    def _make_room(
        self, step: list[tuple[LocalJob, list[int]]]
    ) -> list[tuple[LocalJob, list[int]]]:
        """Reserve memory for every member; without enough, the last ones wait."""
        kept: list[tuple[LocalJob, list[int]]] = []
        while step:
            job, new = step.pop(0)
            while not self._decoder.reserve(job.state.sequence, len(new)):
                if self._evict_idle():
                    continue
                if step:
                    self._preempt(step.pop()[0])
                elif kept:
                    self._preempt(job)
                    break
                else:
                    refusal = (
                        f"{job.request.key}: {len(job.ids)} tokens do not fit into a cache of "
                        f"{self.capacity_tokens} tokens; shorten the thinking budget or use a "
                        "model server"
                    )
                    self._leave_failed(job, EngineRefused(refusal))
                    break
            else:
                kept.append((job, new))
        return kept

    def _evict_idle(self) -> bool:
        idle = [(state.used, key) for key, state in self._states.items() if not state.busy]
        if not idle:
            return False
        self._forget(min(idle)[1])
        return True

    def _preempt(self, job: LocalJob) -> None:
        """Let ``job`` wait for memory; its tokens stay, its cache is dropped."""
        self._leave(job)
        self._decoder.rollback(job.state.sequence, 0)
        self._waiting.appendleft(job)

    def _advance(self, members: Sequence[tuple[LocalJob, list[int]]]) -> None:
        """Run a forward pass; draw a token for jobs whose prompt is read completely."""
        logits = self._decoder.forward([(job.state.sequence, new) for job, new in members])
        jobs = [job for job, _ in members]
        ready = [row for row, job in enumerate(jobs) if len(job.state.sequence.ids) == len(job.ids)]
        if not ready:
            return
        if len(ready) < len(jobs):
            logits = logits[ready]
            jobs = [jobs[row] for row in ready]
        draws = [Draw(j.request.sampling, j.request.seed, j.drawn) for j in jobs]
        for job, token_id in zip(jobs, draw(logits, draws), strict=True):
            self._drawn(job, token_id)

    def _drawn(self, job: LocalJob, token_id: int) -> None:
        if token_id < 0:
            self._leave_failed(job, EngineRefused(f"{job.request.key}: the logits are not numbers"))
            return
        if token_id in job.request.stop_ids or token_id in self._eos_ids:
            self._leave(job)
            self._send(job, Chunk((), "stop", token_id))
            return
        job.ids.append(token_id)
        job.drawn += 1
        full = self.context_tokens is not None and len(job.ids) >= self.context_tokens
        if full or job.drawn >= job.request.max_tokens:
            self._leave(job)
            self._send(job, Chunk((token_id,), "length"))
        else:
            self._send(job, Chunk((token_id,)))

    def _fail_active(self, error: Exception) -> None:
        failure = model_failure(error, "the in-process model")
        if isinstance(failure, EngineUnavailable):
            while self._evict_idle():
                pass
        for job in list(self._active):
            self._leave_failed(job, failure)

    def _leave_failed(self, job: LocalJob, failure: EngineError) -> None:
        self._leave(job)
        self._decoder.rollback(job.state.sequence, 0)
        self._send(job, failure)

    def _send(self, job: LocalJob, item: Chunk | EngineError) -> None:
        self._outbox.setdefault(job.loop, []).append((job, item))

    def _post(self) -> None:
        """Deliver the chunks of a step, with one call into each event loop."""
        for loop, items in self._outbox.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # the loop is closed, and so are these streams
                for job, _ in items:
                    job.closed = True
        self._outbox.clear()


def _deliver(items: Iterable[Delivery]) -> None:
    for job, item in items:
        job.deliver(item)


def _eos_ids(model: PreTrainedModel) -> frozenset[int]:
    config = model.generation_config
    eos = config.eos_token_id if config is not None else None
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)
