"""``tessy doctor``: check everything a run needs, and explain what to fix.

No file is written.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from textwrap import shorten

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tessy.config.base import RoleConfig
from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import EngineError, InputError, SampleFailed
from tessy.core.formatting import counted, duration
from tessy.core.records import Author, Failure, Problem, Trajectory
from tessy.inference.base import EngineInfo
from tessy.inference.pool.pool import ReplicaPool
from tessy.runtime.progress import ProgressState
from tessy.runtime.terminal import print_sample, visible
from tessy.storage.problems import LoadedProblems
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.context import LEAST_TOKENS, MARKER_TOKENS
from tessy.synthesis.problems import load_run_problems, prompt_faults, with_system_prompt
from tessy.synthesis.setup import (
    load_models,
    load_renderers,
    load_role_renderer,
    make_replicas,
    open_resources,
    replica_names,
    roles,
)
from tessy.synthesis.strategies.registry import (
    all_strategies,
    answering_model,
    generating_models,
    unread_options,
)
from tessy.tokenization.renderer import Renderer

EXIT_PROBLEMS = 3
_PATIENCE_SECONDS = 10.0  # for a server that is busy or starts just now
_MODES = {
    "generate": "token ids in and out, vLLM's generate endpoint (the cheapest)",
    "sglang": "token ids in and out, SGLang's generate endpoint",
    "completions": "token ids in and out, the completions endpoint",
    "text": "text in and out, tokenized in this process",
    "local": "in this process",
}


@dataclass
class DoctorReport:
    """The results of all checks, printed as they arrive."""

    config: SynthesisOptions
    console: Console
    problems: list[str] = field(default_factory=list)  # to be fixed before a run
    warnings: list[str] = field(default_factory=list)  # a run can start with them
    sample_failed: str | None = None

    def ok(self, text: str) -> None:
        """Report a check that passed."""
        self._line("✓", "green", text)

    def fail(self, text: str) -> None:
        """Report a problem to fix."""
        self.problems.append(text)
        self._line("✗", "bold red", text)

    def warn(self, text: str) -> None:
        """Report a warning."""
        self.warnings.append(text)
        self._line("!", "yellow", text)

    def _line(self, mark: str, style: str, text: str) -> None:
        line = Text.assemble((f"{mark} ", style), visible(text))
        self.console.print(Padding(line, (0, 0, 0, 2)), highlight=False)

    def heading(self, title: str) -> None:
        """Start a section."""
        self.console.print()
        self.console.print(Text(visible(title), style="bold"), soft_wrap=True)


def doctor(config: SynthesisOptions, console: Console | None = None) -> int:
    """Check everything a run needs; return 0 if a run can start, 3 if there are problems to fix.

    Raises:
        InputError: The options or the problems are invalid.
    """
    report = DoctorReport(config, console or Console())
    loaded = load_run_problems(config, skip_bad_rows=True)
    sources = config.problems or (config.traces,)
    what = "Problems" if config.problems else "Traces"
    report.heading(f"{what}: {', '.join(map(str, sources))}")
    report.ok(f"{counted(len(loaded.problems), 'problem')} read")
    report_bad_row = report.warn if config.skip_bad_rows else report.fail
    for fault in loaded.faults[:5]:
        report_bad_row(f"bad row: {fault}")
    if len(loaded.faults) > 5:
        report_bad_row(f"… and {counted(len(loaded.faults) - 5, 'more bad row')}")
    if loaded.faults and not config.skip_bad_rows:
        report.console.print("  Fix them, or skip them with --skip-bad-rows.")
    for sentence in unread_options(config):
        report.warn(sentence)
    problems = [with_system_prompt(config, problem) for problem in loaded.problems]
    asyncio.run(_check_roles(replace(loaded, problems=tuple(problems)), report))
    report.heading("Result")
    if report.problems:
        report.console.print(
            f"  {counted(len(report.problems), 'problem')} to fix first: see ✗ above."
        )
        return EXIT_PROBLEMS
    result = "Everything a run needs is in place."
    if report.sample_failed is not None:
        result = (
            f"The servers and prompts work, but the sample failed: {report.sample_failed}; "
            "a run may lose many samples in this way."
        )
    if report.warnings:
        result += f" {counted(len(report.warnings), 'warning')}: see ! above."
    report.console.print(Text(visible(f"  {result}")), soft_wrap=True)
    return 0


async def _check_roles(loaded: LoadedProblems, report: DoctorReport) -> None:
    problem = loaded.problems[0]
    config = report.config
    for author, role in roles(config).items():
        if author not in generating_models(config) and author != "student":
            continue
        report.heading(f"{author.capitalize()}: {role.model}")
        renderer = _check_format(author, role, report)
        if renderer is None:
            continue
        if author not in generating_models(config):
            report.ok(f"rows are in this format; strategy {config.strategy} needs no server for it")
            continue
        _check_prompts(renderer, loaded, report)
        prompt_tokens = 0
        with suppress(InputError):  # reported
            prompt_tokens = len(renderer.prompt_ids(problem.messages))
        await _check_servers(author, renderer, prompt_tokens, report)
        if prompt_tokens:
            report.console.print("  Prompt of the first problem:")
            prompt = Text(visible(renderer.prompt_text(problem.messages)), style="dim")
            report.console.print(Padding(prompt, (0, 0, 0, 4)), highlight=False)
    if not report.problems:
        await _check_sample(problem, report)


def _check_format(author: Author, role: RoleConfig, report: DoctorReport) -> Renderer | None:
    try:
        renderer = load_role_renderer(role, author, report.config.date)
    except InputError as error:
        report.fail(f"{author}: {error}")
        return None
    ends = " ".join(
        repr(renderer.codec.token_bytes(token_id).decode("utf-8", "replace"))
        for token_id in sorted(renderer.thinking_stop_ids)
    )
    report.ok(f"chat format {renderer.family}; thinking ends at {ends}")
    shape, template = renderer.shape, renderer.template
    if not shape.shown:
        report.warn(
            f"the chat template does not show the white space around the thinking; the usual is "
            f"assumed: {shape.opening!r} … {shape.closing!r}. Compare it with a raw response of "
            "the model"
        )
    if template.prints_date:
        report.ok(f"the chat template prints the date; prompts say {template.date}")
    return renderer


def _check_prompts(renderer: Renderer, loaded: LoadedProblems, report: DoctorReport) -> None:
    """Check that the model would see every text of every problem."""
    faults = prompt_faults(loaded, [renderer])
    for fault in faults[:3]:
        report.fail(f"{fault.file}:{fault.line}: {fault.message}")
    if len(faults) > 3:
        report.fail(f"… and {counted(len(faults) - 3, 'more problem')} like these")


async def _check_servers(
    author: Author, renderer: Renderer, prompt_tokens: int, report: DoctorReport
) -> None:
    role = roles(report.config)[author]
    try:
        engines = make_replicas(role, author, renderer.codec)
    except InputError as error:
        report.fail(str(error))
        return
    patience = min(report.config.server_patience_seconds, _PATIENCE_SECONDS)
    for engine, name in zip(engines, replica_names(role), strict=True):
        try:
            started = time.monotonic()
            async with ReplicaPool(
                [engine], [name], role=author, patience_seconds=patience
            ) as server:
                info = await server.probe()
            _check_server(info, name, time.monotonic() - started, report)
            _check_context(author, info, prompt_tokens, report)
        except EngineError as error:
            report.fail(str(error))


def _check_server(info: EngineInfo, name: str, seconds: float, report: DoctorReport) -> None:
    if info.mode != "local":
        report.ok(f"{name} serves {info.model}, probed in {duration(seconds)}")
    report_mode = report.warn if info.mode == "text" else report.ok
    report_mode(f"requests: {_MODES[info.mode]}")
    if info.mode != "local":
        if info.prefix_caching is None:
            report.warn("prefix caching: not reported by the server; without it every span is slow")
        elif info.prefix_caching:
            report.ok("prefix caching is on")
        else:
            report.fail("prefix caching is off: every request would compute its whole prompt again")
        if info.capacity_tokens is None:
            report.warn(
                "size of the KV cache: not reported by the server; 32 concurrent samples unless "
                "--concurrency is set"
            )
        else:
            report.ok(f"KV cache of {info.capacity_tokens:,} tokens")
    for note in info.notes:
        report.warn(note)


def _check_context(
    author: Author, info: EngineInfo, prompt_tokens: int, report: DoctorReport
) -> None:
    config = report.config
    context = roles(config)[author].context_tokens or info.context_tokens
    if context is None:
        report.warn(f"context length: not reported by the server; set {author}.context_tokens")
        return
    # In these strategies, every text of a model has an answer.
    several_texts = config.strategy in ("teacher-score", "teacher-reference")
    answers = several_texts or author == answering_model(config)
    max_tokens = config.thinking_tokens + (config.answer_tokens if answers else 0)
    parts = "thinking and answer" if answers else "the thinking"
    remaining = context - prompt_tokens - MARKER_TOKENS
    if remaining < LEAST_TOKENS:
        report.fail(
            f"context of {context:,} tokens: the first problem alone takes {prompt_tokens:,}"
        )
    elif remaining < max_tokens:
        report.warn(
            f"context of {context:,} tokens leaves {remaining:,} after the first problem, less "
            f"than the {max_tokens:,} that {parts} may take; longer samples will fail (budget)"
        )
    else:
        report.ok(f"context of {context:,} tokens")


async def _check_sample(problem: Problem, report: DoctorReport) -> None:
    config = report.config
    report.heading("One sample")

    def print_status(text: str | None) -> None:
        if text:
            report.console.print(f"  {visible(text)}")

    models = load_models(config, load_renderers(config))
    async with open_resources(config, models, print_status) as resources:
        attempt = SampleAttempt(
            context=resources.context,
            problem=problem,
            sample=0,
            number=1,
            save=lambda pieces, state: None,
            checkpoint=lambda: None,
            progress=ProgressState(1, now=0.0),
        )
        row: Trajectory | Failure
        try:
            row = await all_strategies()[config.strategy].make(attempt)
        except SampleFailed as failure:
            row = attempt.failure(failure.reason, failure.detail)
            if failure.reason == "refused":  # no other draw can avoid it
                report.fail(str(failure))
                return
            report.warn(f"the sample failed: {failure}; a run would record it and continue")
            report.sample_failed = shorten(str(failure), 300, placeholder=" …")
        except EngineError as error:
            report.fail(str(error))
            return
    print_sample(report.console, row)
    requests = {str(author): count for author, count in row.cost.requests.items()}
    for part, seconds in row.cost.seconds.items():
        count = f", {counted(requests[part], 'request')}" if part in requests else ""
        report.console.print(f"  {part:<10} {seconds:8.2f} s{count}", highlight=False)
    total = sum(row.cost.seconds.values())
    report.console.print(f"  {'total':<10} {total:8.2f} s", highlight=False)
