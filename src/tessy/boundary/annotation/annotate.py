"""``tessy annotate``: a run of responses in, a directory of annotated segments out; resumable."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from tessy.boundary.annotation.annotators import Annotator, ModelAnnotator, RuleAnnotator
from tessy.boundary.annotation.directory import ANNOTATIONS
from tessy.boundary.annotation.instruction import SCHEMA, ReplyFault, digest
from tessy.boundary.annotation.segments import Responses, TextSegment, draw_segments
from tessy.boundary.annotation.summary import summarise, summary_table
from tessy.boundary.callables import source_digest
from tessy.config.base import SamplingConfig
from tessy.config.predictors import AnnotateConfig
from tessy.core.errors import EXIT_INTERRUPTED, ConfigError, SampleFailed, TessyError
from tessy.core.records import Annotation, FailedAnnotation, SegmentKey
from tessy.core.seeds import derive_seed
from tessy.inference.base import Sampling
from tessy.inference.chat import ChatEngine, ChatPool
from tessy.inference.http.address import (
    read_address,
    read_api_key,
    shown_url,
    without_credentials,
)
from tessy.runtime.admission import Slots
from tessy.runtime.log import log_file, software
from tessy.runtime.progress import Progress, ProgressState, SteadyConsole
from tessy.runtime.runner import JobList, JobResult, run_jobs
from tessy.runtime.stop import Draining, Stop, interruptible
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import iter_failed_rows, iter_rows

# All keys that `_data_config` can give.
_DATA_NAMES = frozenset(
    {"responses.created", "responses.data_digest", "segment_words", "seed", "model"}
    | {"rule", "rule.digest", "instruction"}
    | {f"sampling.{name}" for name in SamplingConfig.model_fields}
)

log = logging.getLogger(__name__)


def annotate(config: AnnotateConfig, console: Console | None = None) -> int:
    """Annotate the segments selected by the options; return the exit code.

    The code is 0, or 130 if Ctrl-C stopped the run gracefully. The progress and the summary are
    printed to ``console``, standard error by default.

    Raises:
        InputError: Options, responses or the directory are unusable; the run did not start.
        EngineError: The servers stayed unreachable; finished rows are kept.
        TessyError: No segment was accepted; failures.jsonl has the reasons.
    """
    console = console or SteadyConsole(stderr=True)
    _check_options(config)
    rule = RuleAnnotator(config.rule) if config.rule is not None else None
    responses = Responses(config.responses)
    segments = draw_segments(
        responses.read(),
        size=config.segment_words,
        per_response=config.segments_per_response,
        total=config.segments,
        seed=config.seed,
    )
    with Run.open(
        config.out,
        ANNOTATIONS,
        config=without_credentials(config.model_dump(mode="json")),
        data_config=_data_config(config, responses),
        known=_DATA_NAMES,
        software=software(),
        fresh=config.fresh,
    ) as directory:
        run = _AnnotationRun(config, directory, responses, segments, console, rule)
        with log_file(directory.paths.log):
            return run.execute()


def _check_options(config: AnnotateConfig) -> None:
    """Refuse inconsistent options."""
    if config.rule is not None and (config.model is not None or config.url):
        raise ConfigError("--rule: it replaces a model; leave out --model and --url, or --rule")
    if config.rule is None and (config.model is None or not config.url):
        missing = "model" if config.model is None else "url"
        raise ConfigError(
            f"--{missing}: no annotator; give --model and --url of a strong model, or a --rule "
            "instead"
        )
    api_key = read_api_key("--api-key-env", config.api_key_env)
    for url in config.url:
        read_address(url, api_key)
    if len(set(config.url)) < len(config.url):
        raise ConfigError(
            f"--url: a server is given twice in {', '.join(map(shown_url, config.url))}"
        )


def _data_config(config: AnnotateConfig, responses: Responses) -> dict[str, Any]:
    """Return the options that determine the rows, and must not change when a run is resumed."""
    data = {
        # The time of creation identifies the run: its digest does not cover its problems.
        "responses.created": responses.document.get("created"),
        "responses.data_digest": responses.document.get("data_digest"),
        "segment_words": config.segment_words,
        "seed": config.seed,
        "rule": config.rule,
        "model": config.model,
    }
    if config.rule is None:
        data["instruction"] = digest()
        sampling = config.sampling.model_dump()
        data |= {f"sampling.{name}": value for name, value in sampling.items()}
    else:
        data["rule.digest"] = source_digest(config.rule)
    return data


@dataclass
class _AnnotationRun:
    config: AnnotateConfig
    directory: Run[SegmentKey]
    responses: Responses
    segments: list[TextSegment]
    console: Console
    rule: RuleAnnotator | None

    def execute(self) -> int:
        started = time.monotonic()
        stopped = False
        failed = set() if self.config.retry_failed else set(self.directory.failed)
        ended = failed | self.directory.done
        missing = [segment for segment in self.segments if segment.key not in ended]
        try:
            if missing:
                known = Counter(
                    self.directory.failed[segment.key].reason
                    for segment in self.segments
                    if segment.key in failed
                )
                stopped = asyncio.run(self._annotate_missing(missing, failed=known))
        except TessyError:
            with suppress(TessyError):  # show the first error
                self._summarise(time.monotonic() - started)
            raise
        summary = self._summarise(time.monotonic() - started)
        self.console.print(summary_table(summary))
        if stopped:
            message = "Stopped gracefully. The same command resumes it."
            self.console.print(message, soft_wrap=True)
            return EXIT_INTERRUPTED
        if not self.directory.done:
            raise TessyError(
                f"none of {len(self.segments)} segments was accepted; "
                f"{self.directory.paths.failures} has the reasons and the replies. Choose a "
                "stronger annotator, or fix the rule, then pass --fresh (or --retry-failed)"
            )
        return 0

    async def _annotate_missing(
        self, missing: list[TextSegment], *, failed: Mapping[str, int]
    ) -> bool:
        """Annotate the missing segments; return whether a stop was requested."""
        state = _AnnotationProgress(
            len(self.segments),
            now=time.monotonic(),
            done=len(self.segments) - len(missing) - sum(failed.values()),
            reasons=failed,
            authors=(),
        )
        earlier = {key: failure.attempts for key, failure in self.directory.failed.items()}
        # Bounds the queue; each server has its own limit.
        slots = Slots(self.config.concurrency * max(1, len(self.config.url)))
        async with interruptible() as stop, Progress(state, self.console):
            with suppress(Draining):  # while the servers were not ready
                async with self._annotator(state.waiting, stop) as annotator:
                    segments = _SegmentAnnotator(annotator, state, earlier, self.config.seed)
                    await run_jobs(
                        JobList(missing),
                        segments.annotate,
                        sink=self.directory,
                        admission=slots,
                        stop=stop,
                        written=segments.written,
                    )
            return stop.requested

    @asynccontextmanager
    async def _annotator(
        self, on_wait: Callable[[str | None], None], stop: Stop
    ) -> AsyncGenerator[Annotator, None]:
        config = self.config
        if self.rule is not None:
            with closing(self.rule):
                yield self.rule
            return
        engines = [
            ChatEngine(
                url,
                config.model or "",
                schema=SCHEMA,
                api_key=read_api_key("--api-key-env", config.api_key_env),
                concurrency=config.concurrency,
            )
            for url in config.url
        ]
        async with ChatPool(
            engines,
            [engine.url for engine in engines],
            role="annotator",
            patience_seconds=config.server_patience_seconds,
            on_wait=on_wait,
            check=stop.check,
        ) as pool:
            for note in (await pool.probe()).notes:
                log.warning("annotator: %s", note)
            yield ModelAnnotator(pool, Sampling(**config.sampling.model_dump()))

    def _summarise(self, seconds: float) -> dict[str, Any]:
        """Summarise all rows and write summary.json; wall-clock time is summed over sessions."""
        paths = self.directory.paths
        with suppress(OSError, ValueError, KeyError, TypeError):  # missing or invalid
            seconds += json.loads(paths.summary.read_bytes())["seconds"]["wall"]
        summary = summarise(
            iter_rows(paths.directory, ANNOTATIONS),
            iter_failed_rows(paths.directory, ANNOTATIONS),
            responses={"used": self.responses.count, "failed": self.responses.count_failed()},
            seconds=seconds,
        )
        self.directory.write_summary(summary)
        return summary


class _AnnotationProgress(ProgressState):
    """Progress in segments, without token counts."""

    def line(self, now: float) -> str:
        """Return the progress as one plain line."""
        return "; ".join(("segments: " + self.counts(), self.outlook(now), *self.troubles(now)))


@dataclass
class _SegmentAnnotator:
    annotator: Annotator
    state: ProgressState
    earlier: Mapping[SegmentKey, int]  # attempts of segments that failed before
    seed: int

    def written(self, segment: TextSegment, result: JobResult) -> None:
        """Record that the row of ``segment`` is durable."""
        if result.failure is None:
            self.state.finished(segment.name)
        else:
            self.state.failed(segment.name, result.failure.reason)

    async def annotate(self, segment: TextSegment) -> JobResult:
        """Annotate ``segment``, retrying rejected replies; return its row."""
        attempt = self.earlier.get(segment.key, 0)
        self.state.started(segment.name)
        problem = None
        for _ in range(self.annotator.tries):
            attempt += 1
            seed = derive_seed(self.seed, "annotate", *segment.key, attempt)
            try:
                style = await self.annotator.mark(segment, seed=seed, problem=problem)
            except ReplyFault as error:
                fault = error
                problem = error.detail
            except SampleFailed as error:
                reason = error.reason if error.reason == "refused" else "server_error"
                fault = ReplyFault(reason, error.detail)
                break  # the client has already retried
            else:
                return JobResult(row=Annotation(**asdict(segment), attempts=attempt, style=style))
        return JobResult(
            failure=FailedAnnotation(
                **asdict(segment),
                attempts=attempt,
                reason=fault.reason,
                detail=fault.detail,
                reply=fault.reply,
            )
        )
