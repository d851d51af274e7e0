"""A trained token classifier as boundary predictor: causal, two labels, label 1 = style.

The output at a token is the class of the next token, so it scores what comes next before it is
written. A worker thread batches the requests of all samples (:class:`WindowReader`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from tessy.boundary.base import Prediction, PredictionRequest
from tessy.boundary.classifier.reader import RequestResult, WindowModel, WindowReader
from tessy.boundary.classifier.window import WindowRule
from tessy.config.base import PredictorWindow
from tessy.core.errors import EngineUnavailable, ModelError
from tessy.core.records import Author
from tessy.inference.local.jobs import model_failure
from tessy.tokenization.token_ids import Codec

_CPU_SLACK = 64
_GPU_SLACK = 512
# Large enough that the requests of a thousand samples do not queue up. Short requests stay fast:
# a pass is bounded in tokens as well.
MAX_BATCH = 1024
MAX_WAIT_MS = 1.0


def padding_slack(device_type: str) -> int:
    """Return the padding tokens worth computing to save one forward pass, by device type."""
    return _CPU_SLACK if device_type == "cpu" else _GPU_SLACK


class TokenClassifierPredictor:
    """Scores units by a token classifier; see :class:`tessy.boundary.base.BoundaryPredictor`."""

    sees_next = True
    lookahead = 0

    def __init__(
        self,
        model: WindowModel[Any],
        codec: Codec,
        *,
        name: str,
        author: Author | None = None,
        rule: WindowRule | None = None,
        max_wait_ms: float = MAX_WAIT_MS,
        slack: int = _CPU_SLACK,
    ) -> None:
        """Use a loaded classifier; :meth:`load` is the usual way.

        After a batch of several requests, the next waits up to ``max_wait_ms`` for others.
        ``slack`` is the number of padding tokens worth computing to save one forward pass.
        """
        self.name = name
        self.author = author
        self._reader = WindowReader(
            model, codec, rule or WindowRule(), max_batch=MAX_BATCH, slack=slack
        )
        self.stats = self._reader.stats  # updated in place
        self._max_wait = max_wait_ms / 1000
        # Requests and their futures, keys to release, and None to stop.
        self._inbox: SimpleQueue[
            tuple[asyncio.Future[Prediction], PredictionRequest] | str | None
        ] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tessy-predictor", daemon=True)
        self._thread.start()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        window: PredictorWindow = "anchored",
        device: str | None = None,
    ) -> TokenClassifierPredictor:
        """Load a checkpoint (local folder or hub id): float32 on CPU, bfloat16 on a GPU.

        The key-value cache takes an eighth of the memory that is free after loading, at most 4 GiB;
        on a GPU a quarter of its free memory. Windows that do not fit are computed again.

        Raises:
            ModelError: torch is not installed, or the checkpoint is not a causal token classifier.
        """
        try:
            from tessy.boundary.classifier.kv_cache import make_window_model
            from tessy.boundary.classifier.model import load_classifier
        except ImportError as error:
            raise ModelError(
                f"the boundary predictor {str(path)!r} needs torch, and it cannot be imported "
                f'({error}); pip install "tessy[torch]", or leave the predictor out to use the '
                "lexicon"
            ) from error
        classifier = load_classifier(path, device=device)
        rule = classifier.rule.as_sliding() if window == "sliding-200" else classifier.rule
        return cls(
            make_window_model(classifier.scorer, rule),
            classifier.codec,
            name=str(path),
            author=classifier.author,
            rule=rule,
            slack=padding_slack(classifier.scorer.model.device.type),
        )

    def predict(self, request: PredictionRequest) -> asyncio.Future[Prediction]:
        """Score the units of ``request``; ``next_style`` is None for an empty text only.

        Raises:
            EngineUnavailable: Out of memory, or the predictor was closed.
            EngineRefused: The classifier failed.
        """
        if self._closing:
            raise EngineUnavailable(f"the boundary predictor {self.name} was closed")
        future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._inbox.put((future, request))
        return future

    def release(self, key: str) -> None:
        """Drop the cached windows of the sample ``key``."""
        self._inbox.put(key)

    async def aclose(self) -> None:
        """Stop the worker thread; unfinished requests fail."""
        self._closing = True
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- in the worker thread

    def _run(self) -> None:
        batched = False  # several requests arrived together, so more are likely to follow
        while not self._closing:
            idle = self._reader.idle
            received = self._receive(wait=idle)
            if batched and idle and received < MAX_BATCH and not self._closing:
                # Sleeping avoids a wake-up per request, which waiting on the inbox would cause.
                time.sleep(self._max_wait)
                received += self._receive()
            batched = received > 1
            self._step()
        while not self._inbox.empty():
            self._receive()
        closed = EngineUnavailable(f"the boundary predictor {self.name} was closed")
        self._deliver([RequestResult(future, closed) for future in self._reader.abandon()])

    def _receive(self, *, wait: bool = False) -> int:
        """Pass the items of the inbox to the reader; return their number."""
        received = 0
        with contextlib.suppress(Empty):
            while True:
                item = self._inbox.get(wait)
                wait = False
                received += 1
                if isinstance(item, str):
                    self._reader.release(item)
                elif item is not None:
                    self._reader.submit(*item)
        return received

    def _step(self) -> None:
        try:
            for results in self._reader.step(asyncio.Future.done):
                self._deliver(results)
        # Every error must reach the callers: if the thread died, they would wait forever.
        except Exception as error:
            self._deliver([RequestResult(future, error) for future in self._reader.abandon()])

    def _deliver(self, results: Sequence[RequestResult]) -> None:
        """Deliver results, with one call into each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[RequestResult]] = {}
        for future, result in results:
            if not isinstance(result, Prediction | EngineUnavailable):
                result = model_failure(result, f"the boundary predictor {self.name}")
            by_loop.setdefault(future.get_loop(), []).append(RequestResult(future, result))
        for loop, group in by_loop.items():
            # A closed loop raises; nothing awaits its results.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, group)


def _resolve(results: Sequence[RequestResult]) -> None:
    for future, result in results:
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(result, Prediction):
            future.set_result(result)
        else:
            future.set_exception(result)
