"""``tessy doctor``: check everything a run needs, and explain what to fix.

Probes every server of both roles, shows the two exact prompts of the first problem, makes one
sample and prints it with the time each part took. Nothing is written.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from textwrap import shorten

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tessy.config.base import RoleConfig
from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import EngineError, EngineUnavailable, InputError, SampleFailed
from tessy.core.formatting import counted, duration
from tessy.core.records import Author, Failure, Problem, Trajectory
from tessy.inference.base import EngineInfo
from tessy.runtime.terminal import print_sample, visible
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.context import LEAST_TOKENS, MARKER_TOKENS
from tessy.synthesis.problems import load_run_problems, with_system_prompt
from tessy.synthesis.setup import (
    load_models,
    load_renderers,
    load_role_renderer,
    make_replicas,
    open_resources,
    replica_names,
    roles,
)
from tessy.synthesis.strategies.registry import all_strategies, answering_model, generating_models
from tessy.tokenization.renderer import Renderer

EXIT_PROBLEMS = 3
_MODES = {
    "generate": "token ids in and out, vLLM's generate endpoint (the cheapest)",
    "sglang": "token ids in and out, SGLang's generate endpoint",
    "completions": "token ids in and out, the completions endpoint",
    "text": "text in and out, encoded again here",
    "local": "in this process",
    "scripted": "a script",
}


@dataclass
class DoctorReport:
    """Problems to fix before a run, advice, and why the sample failed."""

    console: Console
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    sample_failed: str | None = None

    def good(self, text: str) -> None:
        """Report a check that passed."""
        self._line("✓", "green", text)

    def bad(self, text: str) -> None:
        """Report a problem to fix."""
        self.problems.append(text)
        self._line("✗", "bold red", text)

    def note(self, text: str) -> None:
        """Report advice."""
        self.advice.append(text)
        self._line("!", "yellow", text)

    def _line(self, mark: str, style: str, text: str) -> None:
        line = Text.assemble((f"{mark} ", style), visible(text))
        self.console.print(Padding(line, (0, 0, 0, 2)), highlight=False)


def doctor(config: SynthesisOptions, console: Console | None = None) -> int:
    """Check everything a run needs; return 0 if a run would work, 3 if something must be fixed.

    Raises:
        InputError: The options or the problems are unusable.
    """
    found = DoctorReport(console or Console())
    loaded = load_run_problems(config, skip_bad_rows=True)
    _heading(found, f"Problems: {config.problems}")
    found.good(f"{counted(len(loaded.problems), 'problem')} read")
    report = found.note if config.skip_bad_rows else found.bad
    for fault in loaded.faults[:5]:
        report(f"bad row: {fault}")
    if len(loaded.faults) > 5:
        report(f"… and {counted(len(loaded.faults) - 5, 'more bad row')}")
    if loaded.faults and not config.skip_bad_rows:
        found.console.print("  Fix them, or skip them with --skip-bad-rows.")
    asyncio.run(_examine(config, with_system_prompt(config, loaded.problems[0]), found))
    _heading(found, "Result")
    if found.problems:
        found.console.print(
            f"  {counted(len(found.problems), 'problem')} to fix first: see ✗ above."
        )
        return EXIT_PROBLEMS
    notes = f" {counted(len(found.advice), 'remark')}: see ! above." if found.advice else ""
    result = "Everything a run needs is in place."
    if found.sample_failed is not None:
        result = (
            f"The servers and prompts work, but the sample failed: {found.sample_failed}; "
            "a run may lose many samples in this way."
        )
    found.console.print(Text(visible(f"  {result}{notes}")), soft_wrap=True)
    return 0


def _heading(found: DoctorReport, title: str) -> None:
    """Start a part of the report."""
    found.console.print()
    found.console.print(Text(visible(title), style="bold"), soft_wrap=True)


async def _examine(config: SynthesisOptions, problem: Problem, found: DoctorReport) -> None:
    for author, role in roles(config).items():
        if author not in generating_models(config) and author != "student":
            continue
        _heading(found, f"{author.capitalize()}: {role.model}")
        renderer = _format(author, role, found)
        if renderer is None:
            continue
        if author not in generating_models(config):
            found.good(f"rows are in this format; strategy {config.strategy} needs no server of it")
            continue
        prompt = _prompt_tokens(renderer, problem, found)
        await _servers(author, role, renderer, prompt, config, found)
        if prompt:
            found.console.print("  prompt of the first problem, as the model reads it:")
            shown = Text(visible(renderer.prompt_text(problem.messages)), style="dim")
            found.console.print(Padding(shown, (0, 0, 0, 4)), highlight=False)
    if not found.problems:
        await _one_sample(config, problem, found)


def _format(author: Author, role: RoleConfig, found: DoctorReport) -> Renderer | None:
    try:
        renderer = load_role_renderer(role)
    except InputError as error:
        found.bad(f"{author}: {error}")
        return None
    ends = " ".join(
        repr(renderer.codec.token_bytes(token_id).decode("utf-8", "replace"))
        for token_id in sorted(renderer.thinking_stop_ids)
    )
    found.good(f"chat format {renderer.family}; thinking ends at {ends}")
    return renderer


def _prompt_tokens(renderer: Renderer, problem: Problem, found: DoctorReport) -> int:
    try:
        return len(renderer.prompt_ids(problem.messages))
    except InputError as error:
        found.bad(f"the first problem cannot be rendered: {error}")
        return 0


async def _servers(
    author: Author,
    role: RoleConfig,
    renderer: Renderer,
    prompt_tokens: int,
    config: SynthesisOptions,
    found: DoctorReport,
) -> None:
    try:
        engines = make_replicas(role, author, renderer.codec)
    except InputError as error:
        found.bad(str(error))
        return
    for engine, name in zip(engines, replica_names(role), strict=True):
        try:
            started = time.monotonic()
            info = await engine.probe()
            _report(info, name, time.monotonic() - started, found)
            _context(author, role, info, prompt_tokens, config, found)
        except EngineUnavailable as error:
            found.bad(f"{name}: {error}; start the server or check the URL")
        except EngineError as error:
            found.bad(f"{name}: {error}")
        finally:
            await engine.aclose()


def _report(info: EngineInfo, name: str, seconds: float, found: DoctorReport) -> None:
    if info.mode != "local":
        found.good(f"{name} serves {info.model}, probed in {duration(seconds)}")
    line = f"requests: {_MODES[info.mode]}"
    (found.note if info.mode == "text" else found.good)(line)
    if info.mode != "local":
        if info.prefix_caching is None:
            found.note("prefix caching: not reported by the server; without it every span is slow")
        elif info.prefix_caching:
            found.good("prefix caching is on")
        else:
            found.bad("prefix caching is off: every request would compute its whole prompt again")
        if info.capacity_tokens is None:
            found.note(
                "KV memory: not reported by the server; 32 samples in flight unless --concurrency "
                "is set"
            )
        else:
            found.good(f"KV memory for {info.capacity_tokens:,} tokens")
    for note in info.notes:
        found.note(note)


def _context(
    author: Author,
    role: RoleConfig,
    info: EngineInfo,
    prompt_tokens: int,
    config: SynthesisOptions,
    found: DoctorReport,
) -> None:
    context = role.context_tokens or info.context_tokens
    if context is None:
        found.note(f"context length: not reported by the server; set {author}.context_tokens")
        return
    # Where a model writes several texts, each of them has an answer.
    several = config.strategy in ("teacher-score", "teacher-reference")
    answers = several or author == answering_model(config)
    wanted = config.thinking_tokens + (config.answer_tokens if answers else 0)
    what = "thinking and answer" if answers else "the thinking"
    left = context - prompt_tokens - MARKER_TOKENS
    if left < LEAST_TOKENS:
        found.bad(f"context of {context:,} tokens: the first problem alone takes {prompt_tokens:,}")
    elif left < wanted:
        found.note(
            f"context of {context:,} tokens leaves {left:,} beside the first problem, less than "
            f"the {wanted:,} that {what} may take; longer samples will fail (budget)"
        )
    else:
        found.good(f"context of {context:,} tokens")


class _NullObserver:
    """Ignores token counts."""

    def kept(self, author: Author, tokens: int) -> None:
        """Not counted."""

    def drafted(self, author: Author, tokens: int) -> None:
        """Not counted."""


async def _one_sample(config: SynthesisOptions, problem: Problem, found: DoctorReport) -> None:
    _heading(found, "One sample")

    def waiting(text: str | None) -> None:
        if text:
            found.console.print(f"  {visible(text)}")

    parts = load_models(config, load_renderers(config))
    async with open_resources(config, parts, waiting) as table:
        attempt = SampleAttempt(
            context=table.context,
            problem=problem,
            sample=0,
            number=1,
            save=lambda pieces, state: None,
            checkpoint=lambda: None,
            observer=_NullObserver(),
        )
        row: Trajectory | Failure
        try:
            row = await all_strategies()[config.strategy].make(attempt)
        except SampleFailed as failure:
            row = attempt.failure(failure.reason, failure.detail)
            found.note(f"the sample failed: {failure}; a run would record it and continue")
            found.sample_failed = shorten(str(failure), 300, placeholder=" …")
        except EngineError as error:
            found.bad(str(error))
            return
    print_sample(found.console, row)
    requests = {str(author): count for author, count in row.cost.requests.items()}
    for part, seconds in row.cost.seconds.items():
        sent = f", {counted(requests[part], 'request')}" if part in requests else ""
        found.console.print(f"  {part:<10} {seconds:8.2f} s{sent}", highlight=False)
    total = sum(row.cost.seconds.values())
    found.console.print(f"  {'total':<10} {total:8.2f} s", highlight=False)
