"""The ``tessy`` command: a table of subcommands, and exit codes for errors.

Modules are imported when their command runs, so that ``tessy --help`` is fast.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, cast

from tessy.core.errors import EXIT_INTERRUPTED, EngineError, InputError, TessyError

if TYPE_CHECKING:  # importing pydantic is slow
    from tessy.config.base import Config

# 0 is success, 4 a budget of the run that is used up.
EXIT_FAILED = 1  # no sample finished, the disk is full, or (with a traceback) an unexpected error
EXIT_INPUT = 2  # invalid input, nothing was started
EXIT_ENGINE = 3  # a model server failed, or `doctor` found problems
EXIT_UNREAD = 141  # the output was closed (`| head`): 128 + SIGPIPE


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand, whose modules are imported when it runs."""

    summary: str  # for `tessy --help`
    config: str  # `module:class`
    run: str  # `module:function`; takes the configuration, returns the exit code
    positional: tuple[str, ...] = ()  # fields of the configuration


COMMANDS = {
    "demo": Command(
        "Generate samples with two tiny bundled models, without a server",
        "tessy.config.synthesis:DemoConfig",
        "tessy.lab.demo:demo",
    ),
    "lab": Command(
        "Test the paper's claim with the tiny bundled models, on a laptop",
        "tessy.config.lab:LabConfig",
        "tessy.lab.experiment.command:lab",
    ),
    "synthesize": Command(
        "Generate training samples that two models write together",
        "tessy.config.synthesis:SynthesizeConfig",
        "tessy.reports.viewer.after_run:synthesize",
    ),
    "plan": Command(
        "Run a pilot and estimate the cost of the whole file",
        "tessy.config.synthesis:PlanConfig",
        "tessy.plan.command:plan",
    ),
    "doctor": Command(
        "Check servers, models and prompts, and explain what to fix",
        "tessy.config.synthesis:DoctorConfig",
        "tessy.doctor:doctor",
    ),
    "sample": Command(
        "Sample a model's own responses, for training its predictor",
        "tessy.config.predictors:SampleConfig",
        "tessy.reports.viewer.after_run:sample",
    ),
    "annotate": Command(
        "Mark the style in sampled thinking with a strong model",
        "tessy.config.predictors:AnnotateConfig",
        "tessy.boundary.annotation.annotate:annotate",
    ),
    "train-predictor": Command(
        "Train a boundary predictor on annotations",
        "tessy.config.predictors:TrainPredictorConfig",
        "tessy.boundary.training.train:train_predictor",
    ),
    "evaluate-predictor": Command(
        "Evaluate how accurately boundary predictors cut",
        "tessy.config.predictors:EvaluatePredictorConfig",
        "tessy.boundary.evaluation.evaluate:evaluate_predictor",
    ),
    "evaluate": Command(
        "Score a model on a benchmark, such as before and after training",
        "tessy.config.evaluation:EvaluateConfig",
        "tessy.reports.viewer.after_run:evaluate",
    ),
    "judge": Command(
        "Exchange responses and verdicts with a benchmark's official judge",
        "tessy.config.evaluation:JudgeConfig",
        "tessy.reports.viewer.after_run:judge",
        ("run",),
    ),
    "view": Command(
        "Write report.html, a self-contained page that shows a run",
        "tessy.config.synthesis:ViewConfig",
        "tessy.reports.viewer.after_run:view",
        ("run",),
    ),
    "compare": Command(
        "Compare runs, or evaluations, in tables and a page",
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
        "Quarantine unfit samples of a run, with reasons",
        "tessy.config.data:FilterConfig",
        "tessy.data.filter.command:filter_run",
        ("run",),
    ),
    "export": Command(
        "Write the samples of a run as training data",
        "tessy.config.data:ExportConfig",
        "tessy.data.export.command:export",
        ("run",),
    ),
    "sft": Command(
        "Fine-tune the student on a run",
        "tessy.config.training:SftConfig",
        "tessy.training.command:sft",
        ("data",),
    ),
}


def usage() -> str:
    """Return the text of ``tessy --help``."""
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:<{width}}{c.summary}" for name, c in COMMANDS.items())
    return (
        "usage: tessy COMMAND [OPTIONS]\n\n"
        "Fine-tuning data with a teacher's skill in the student's own style.\n\n"
        f"commands:\n{commands}\n\n"
        "tessy COMMAND --help lists the options of a command. They can also be set in a TOML\n"
        "file (--config FILE). tessy --version prints the version.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default that of the process; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # tests replace them
            stream.reconfigure(errors="replace")  # characters that the terminal lacks
    try:
        try:
            return _dispatch(arguments)
        finally:
            print(end="", flush=True)  # a failing flush at exit would print a traceback
    except OSError:
        try:
            print(flush=True)
        except OSError as error:  # stdout was closed, or its disk is full: discard further output
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, sys.stdout.fileno())
            os.close(devnull)
            if isinstance(error, BrokenPipeError):
                return EXIT_UNREAD
            print(f"tessy: the output cannot be written: {error.strerror}", file=sys.stderr)
            return EXIT_FAILED
        raise


def _dispatch(arguments: Sequence[str]) -> int:
    name = arguments[0] if arguments else None
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
    return _run(name, arguments[1:])


def _run(name: str, arguments: Sequence[str]) -> int:
    try:
        from tessy.config.options import parse

        command = COMMANDS[name]
        config_class = cast("type[Config]", resolve_name(command.config))
        config = parse(config_class, arguments, prog=f"tessy {name}", positional=command.positional)
        return cast("Callable[[Config], int]", resolve_name(command.run))(config)
    except TessyError as error:
        print(f"tessy: {error}", file=sys.stderr)
        if isinstance(error, InputError):
            return EXIT_INPUT
        return EXIT_ENGINE if isinstance(error, EngineError) else EXIT_FAILED
    except KeyboardInterrupt:
        print("tessy: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
