"""The ``tessy`` command: a table of subcommands, and exit codes for errors.

Exit codes: 0 done; 1 nothing could be made, the disk is full, or an unexpected error, with its
traceback; 2 invalid input, nothing was started; 3 a model server ended the run; 4 the budget of the
run is used up; 130 interrupted by Ctrl-C; 141 the output was closed (``| head``).

Modules are imported when their command runs, so that ``tessy --help`` is fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tessy.core.errors import EngineError, InputError, TessyError

if TYPE_CHECKING:  # pydantic takes a moment to import
    from tessy.config.base import Config

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_ENGINE = 3
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # what shells report of a program that SIGPIPE ended


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand. Everything it needs is imported when it runs.

    Attributes:
        summary: Its line in ``tessy --help``.
        config: ``module:class`` of its configuration.
        run: ``module:function`` that takes the configuration and returns the exit code.
        positional: Fields of the configuration that are given by position.
    """

    summary: str
    config: str
    run: str
    positional: tuple[str, ...] = ()


COMMANDS = {
    "demo": Command(
        "Make samples with two tiny bundled models, on this machine",
        "tessy.config.synthesis:DemoConfig",
        "tessy.lab.demo:demo",
    ),
    "synthesize": Command(
        "Make training samples that two models write together",
        "tessy.config.synthesis:SynthesizeConfig",
        "tessy.reports.viewer.after_run:synthesize",
    ),
    "plan": Command(
        "Make a pilot and estimate what the whole file will cost",
        "tessy.config.synthesis:PlanConfig",
        "tessy.plan.command:plan",
    ),
    "doctor": Command(
        "Check servers, models and prompts; explain what to fix",
        "tessy.config.synthesis:DoctorConfig",
        "tessy.doctor:doctor",
    ),
    "sample": Command(
        "Sample one model's own responses, to train its predictor on",
        "tessy.config.predictors:SampleConfig",
        "tessy.reports.viewer.after_run:sample",
    ),
    "annotate": Command(
        "Let a strong model mark the style in sampled thinking",
        "tessy.config.predictors:AnnotateConfig",
        "tessy.boundary.annotation.annotate:annotate",
    ),
    "train-predictor": Command(
        "Train a boundary predictor on annotations",
        "tessy.config.predictors:TrainPredictorConfig",
        "tessy.boundary.training.train:train_predictor",
    ),
    "evaluate-predictor": Command(
        "Measure how well predictors cut",
        "tessy.config.predictors:EvaluatePredictorConfig",
        "tessy.boundary.evaluation.evaluate:evaluate_predictor",
    ),
    "view": Command(
        "Write a run as one self-contained page, report.html",
        "tessy.config.synthesis:ViewConfig",
        "tessy.reports.viewer.after_run:view",
        ("run",),
    ),
    "compare": Command(
        "Show runs side by side: a table and a page",
        "tessy.config.data:CompareConfig",
        "tessy.reports.compare.command:compare",
        ("runs",),
    ),
    "mix": Command(
        "Join samples of two runs in a ratio",
        "tessy.config.data:MixConfig",
        "tessy.data.mix:mix",
        ("first", "second"),
    ),
    "filter": Command(
        "Quarantine unfit samples, with reasons",
        "tessy.config.data:FilterConfig",
        "tessy.data.filter.command:filter_run",
        ("run",),
    ),
    "export": Command(
        "Write samples as training data",
        "tessy.config.data:ExportConfig",
        "tessy.data.export.command:export",
        ("run",),
    ),
}


def usage() -> str:
    """Return the text of ``tessy --help``."""
    width = max(map(len, COMMANDS)) + 2
    listed = "\n".join(f"  {name:<{width}}{c.summary}" for name, c in COMMANDS.items())
    return (
        "usage: tessy COMMAND [OPTIONS]\n\n"
        "Fine-tuning data that carries a teacher's skill in the student's own style.\n\n"
        f"commands:\n{listed}\n\n"
        "tessy COMMAND --help shows a command's options; each can also stand in a TOML file\n"
        "given with --config. tessy --version prints the version.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        The exit code (module docstring).
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        try:
            return _dispatch(given)
        finally:
            print(end="", flush=True)  # now, for Python's own flush at exit shows a traceback
    except BrokenPipeError:
        if not _output_is_unread():
            raise
        return EXIT_UNREAD


def _output_is_unread() -> bool:
    """Return whether our output was closed; if so, discard the rest of it."""
    try:
        print(flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def _dispatch(given: Sequence[str]) -> int:
    name = given[0] if given else None
    if name in ("--help", "-h", "help"):
        print(usage(), end="")
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"tessy {version('tessy')}")
        return 0
    if name not in COMMANDS:
        problem = f"there is no command {name!r}" if name else "a command is missing"
        print(f"tessy: {problem}\n\n{usage()}", end="", file=sys.stderr)
        return EXIT_INPUT
    return _exit_code(name, given[1:])


def _exit_code(name: str, arguments: Sequence[str]) -> int:
    """Run a command; an error that the user can fix is a message instead of a traceback."""
    try:
        return _run(name, arguments)
    except InputError as error:
        print(f"tessy: {error}", file=sys.stderr)
        return EXIT_INPUT
    except EngineError as error:
        print(f"tessy: {error}", file=sys.stderr)
        return EXIT_ENGINE
    except TessyError as error:
        print(f"tessy: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("tessy: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(name: str, arguments: Sequence[str]) -> int:
    from tessy.config.options import parse

    command = COMMANDS[name]
    kind = cast("type[Config]", _imported(command.config))
    config = parse(kind, arguments, prog=f"tessy {name}", positional=command.positional)
    run = cast("Callable[[Config], int]", _imported(command.run))
    return run(config)


def _imported(spec: str) -> object:
    """Import ``module:name``."""
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)
