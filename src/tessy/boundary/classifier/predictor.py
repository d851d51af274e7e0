"""A trained token classifier as boundary predictor: causal, two labels, label 1 = style.

Labels are those of the released checkpoints (METHOD): the output at a token is the class of the
token after it, so the classifier says what comes next before it is written. A worker thread takes
what waits, from all samples, as one batch (:mod:`tessy.boundary.classifier.reader`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from tessy.boundary.base import Calm, OnResult, PendingPrediction, Prediction, PredictionRequest
from tessy.boundary.classifier.reader import Answer, WindowReader
from tessy.boundary.classifier.scoring import PredictorStats, WindowModel
from tessy.boundary.classifier.window import WindowRule
from tessy.config.synthesis import PredictorWindow
from tessy.core.errors import EngineUnavailable, ModelError
from tessy.core.records import Author
from tessy.inference.local.jobs import model_failure

if TYPE_CHECKING:
    from tessy.tokenization.codec import HfCodec

_CPU_SLACK = 64
_GPU_SLACK = 512
# At a thousand samples in flight 256 were too few: views queued up, and what was written meanwhile
# was lost. A pass is bounded in tokens as well, so short views do not make it long.
MAX_BATCH = 1024
MAX_WAIT_MS = 1.0


def padding_slack(device_type: str) -> int:
    """Padding tokens worth computing to spare one more forward pass, by kind of device."""
    return _CPU_SLACK if device_type == "cpu" else _GPU_SLACK


@dataclass(eq=False, slots=True)
class _QueuedRequest(PendingPrediction):
    """A view on its way to the worker thread, and who is told the answer in which loop."""

    view: PredictionRequest
    loop: asyncio.AbstractEventLoop
    told: OnResult
    calm: Calm | None = None
    answer: Prediction | None = None  # kept back
    hurried: bool = False
    over: bool = False  # told, or not wanted any more

    def keeps(self, answer: Prediction) -> bool:
        """Whether ``answer`` waits here until it is wanted; called by the worker thread."""
        try:
            if self.calm is None or not self.calm(answer):
                return False
        except Exception:  # whoever is told will come across it, and knows what to do
            return False
        self.answer = answer
        return not self.hurried  # asked after it was set: `hurry` looks the other way round

    def hurry(self) -> Prediction | None:
        """What was kept back; what comes later is told."""
        self.hurried = True
        if self.answer is None or self.over:
            return None
        self.over = True
        return self.answer

    def tell(self, answer: Prediction | BaseException) -> None:
        """The answer, once; called in the event loop."""
        if not self.over:
            self.over = True
            self.told(answer)

    def cancel(self) -> None:
        """The answer is not wanted any more."""
        self.over = True


class TokenClassifierPredictor:
    """Judges units by a token classifier; see :class:`tessy.boundary.base.BoundaryPredictor`."""

    sees_next = True
    lookahead = 0

    def __init__(
        self,
        model: WindowModel[Any],
        codec: HfCodec,
        *,
        name: str,
        author: Author | None = None,
        rule: WindowRule | None = None,
        max_batch: int = MAX_BATCH,
        max_wait_ms: float = MAX_WAIT_MS,
        slack: int = _CPU_SLACK,
    ) -> None:
        """Use a loaded classifier; :meth:`load` is the usual way.

        Args:
            model: The classifier.
            codec: Of the classifier's tokenizer.
            name: What to call it.
            author: Whose words it was trained to cut; None if nobody knows.
            rule: How long windows are.
            max_batch: Views judged in one pass.
            max_wait_ms: How long a view may wait for company, when others came lately.
            slack: Padding tokens worth computing to spare one more forward pass.
        """
        self.name = name
        self.author = author
        self._reader = WindowReader(
            model, codec, rule or WindowRule(), max_batch=max_batch, slack=slack
        )
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1000
        # Questions, keys to release, and None at the end.
        self._inbox: SimpleQueue[_QueuedRequest | str | None] = SimpleQueue()
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
        max_batch: int = MAX_BATCH,
        max_wait_ms: float = MAX_WAIT_MS,
    ) -> TokenClassifierPredictor:
        """Load a checkpoint: float32 on CPU, bfloat16 on a GPU.

        Keys and values are kept in an eighth of the memory that is free then, at most 4 GiB; on a
        GPU in a quarter of its free memory. Samples that do not fit in are read again.

        Args:
            path: A local folder or a hub id: a transformers token classifier and its tokenizer.
            window: ``anchored``: each token is read once, in a window of up to 512 that grows;
                ``sliding-200``: the last 200 are read each time, as the released code does.
            device: As torch names it; a GPU if there is one by default.
            max_batch: Views judged in one pass.
            max_wait_ms: How long a view may wait for company, when others came lately.

        Raises:
            ModelError: torch is not installed, or the checkpoint is not such a classifier.
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
        rule = classifier.rule.slide() if window == "sliding-200" else classifier.rule
        return cls(
            make_window_model(classifier.scorer, rule),
            classifier.codec,
            name=str(path),
            author=classifier.author,
            rule=rule,
            max_batch=max_batch,
            max_wait_ms=max_wait_ms,
            slack=padding_slack(classifier.scorer.model.device.type),
        )

    @property
    def stats(self) -> PredictorStats:
        """What has been done since loading; it goes on counting."""
        return self._reader.stats

    def predict(self, view: PredictionRequest) -> asyncio.Future[Prediction]:
        """Score the units of ``view``; ``next_style`` is None for an empty text only.

        Raises:
            EngineUnavailable: Out of memory, or the predictor was closed.
            EngineRefused: The classifier failed.
        """
        loop = asyncio.get_running_loop()
        judged: asyncio.Future[Prediction] = loop.create_future()

        def tell(answer: Prediction | BaseException) -> None:
            if judged.done():
                return
            if isinstance(answer, Prediction):
                judged.set_result(answer)
            else:
                judged.set_exception(answer)

        question = self.ask(view, tell)
        judged.add_done_callback(lambda _: question.cancel())
        return judged

    def ask(
        self, view: PredictionRequest, told: OnResult, calm: Calm | None = None
    ) -> PendingPrediction:
        """Have ``view`` judged; the loop that is running now calls ``told`` with the answer.

        An answer that is ``calm`` waits until the question is hurried.

        Raises:
            EngineUnavailable: The predictor was closed.
        """
        if self._closing:
            raise EngineUnavailable(f"the boundary predictor {self.name} was closed")
        question = _QueuedRequest(view, asyncio.get_running_loop(), told, calm)
        self._inbox.put(question)
        return question

    def release(self, key: str) -> None:
        """Forget the reading of the sample ``key``."""
        self._inbox.put(key)

    async def aclose(self) -> None:
        """End the worker thread; views still waiting fail."""
        self._closing = True
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- in the worker thread

    def _run(self) -> None:
        company = False  # several views came together, so more may be about to come
        while not self._closing:
            idle = self._reader.idle
            came = self._take(wait=idle)
            if company and idle and came < self._max_batch and not self._closing:
                # Asleep, not at the inbox: there, every view would wake this thread up.
                time.sleep(self._max_wait)
                came += self._take()
            company = came > 1
            self._turn()
        while not self._inbox.empty():
            self._take()
        closed = EngineUnavailable(f"the boundary predictor {self.name} was closed")
        _deliver([Answer(question, closed) for question in self._reader.abandon()])

    def _take(self, *, wait: bool = False) -> int:
        """Hand over what is in the inbox; how many there were.

        Args:
            wait: For the first of them, for as long as it takes.
        """
        came = 0
        with contextlib.suppress(Empty):
            while True:
                item = self._inbox.get(wait)
                wait = False
                came += 1
                if isinstance(item, str):
                    self._reader.release(item)
                elif item is not None:
                    self._reader.ask(item, item.view)
        return came

    def _turn(self) -> None:
        try:
            for answers in self._reader.turn(_is_over):
                _deliver([told for answer in answers if (told := self._told(answer)) is not None])
        # Whatever goes wrong must reach those who wait: a dead thread would leave them hanging.
        except Exception as error:
            left = self._reader.abandon()
            _deliver([self._failed(question, error) for question in left])

    def _told(self, answer: Answer) -> Answer | None:
        """What the event loop is woken up for; None if it need not be."""
        question, result = answer
        if not isinstance(result, Prediction):
            return self._failed(question, result)
        return None if question.keeps(result) else answer

    def _failed(self, question: _QueuedRequest, error: Exception) -> Answer:
        return Answer(question, model_failure(error, f"the boundary predictor {self.name}"))


def _is_over(question: _QueuedRequest) -> bool:
    return question.over


def _deliver(answers: Sequence[Answer]) -> None:
    """Hand the results over, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer.question.loop, []).append(answer)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, group)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _resolve(answers: Sequence[Answer]) -> None:
    for question, result in answers:
        question.tell(result)
