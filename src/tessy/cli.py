"""The ``tessy`` command: finds the subcommand, runs it, and turns errors into exit codes.

Exit codes: 0 done; 1 nothing could be made, the disk is full, or an unexpected error, with its
traceback; 2 the input is wrong, nothing was started; 3 a model server ended the run; 4 the run's
budget is spent and samples are left; 130 stopped by Ctrl-C; 141 who read our output went away
(``| head``).

Every import of weight stands inside a command, so that ``tessy --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessy.core.errors import EngineError, InputError, TessyError

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_ENGINE = 3
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # what shells report of a program that SIGPIPE ended


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: what the list says of it, and what runs it with the arguments behind it."""

    summary: str
    run: Callable[[Sequence[str]], int]


def _demo(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.synthesis import DemoConfig

    config = parse(DemoConfig, arguments, prog="tessy demo")
    from tessy.lab.demo import demo

    return demo(config)


def _synthesize(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.synthesis import SynthesizeConfig

    config = parse(SynthesizeConfig, arguments, prog="tessy synthesize")
    from tessy.reports.viewer.page import write_report
    from tessy.synthesis.run import synthesize

    code = synthesize(config)
    print(f"Every sample, and who wrote which words: {write_report(config.out)}")
    return code


def _doctor(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.synthesis import DoctorConfig

    config = parse(DoctorConfig, arguments, prog="tessy doctor")
    from tessy.doctor import doctor

    return doctor(config)


def _view(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.synthesis import ViewConfig

    config = parse(ViewConfig, arguments, prog="tessy view", positional=["run"])
    from tessy.reports.viewer.page import write_report

    print(write_report(config.run))
    return 0


def _sample(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.predictors import SampleConfig

    config = parse(SampleConfig, arguments, prog="tessy sample")
    from tessy.reports.viewer.page import write_report
    from tessy.synthesis.run import sample

    code = sample(config)
    print(f"Every sample: {write_report(config.out)}")
    return code


def _annotate(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.predictors import AnnotateConfig

    config = parse(AnnotateConfig, arguments, prog="tessy annotate")
    from tessy.boundary.annotation.annotate import annotate

    return annotate(config)


def _train_predictor(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.predictors import TrainPredictorConfig

    config = parse(TrainPredictorConfig, arguments, prog="tessy train-predictor")
    from tessy.boundary.training.train import train_predictor

    return train_predictor(config)


def _evaluate_predictor(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.predictors import EvaluatePredictorConfig

    config = parse(EvaluatePredictorConfig, arguments, prog="tessy evaluate-predictor")
    from tessy.boundary.evaluation.evaluate import evaluate_predictor

    return evaluate_predictor(config)


def _plan(arguments: Sequence[str]) -> int:
    from tessy.config.options import parse
    from tessy.config.synthesis import PlanConfig

    config = parse(PlanConfig, arguments, prog="tessy plan")
    from tessy.plan.command import plan

    return plan(config)


def _mix(arguments: Sequence[str]) -> int:
    from tessy.config.data import MixConfig
    from tessy.config.options import parse

    config = parse(MixConfig, arguments, prog="tessy mix", positional=["first", "second"])
    from tessy.data.mix import mix

    return mix(config)


def _filter(arguments: Sequence[str]) -> int:
    from tessy.config.data import FilterConfig
    from tessy.config.options import parse

    config = parse(FilterConfig, arguments, prog="tessy filter", positional=["run"])
    from tessy.data.filter.command import filter_run

    return filter_run(config)


def _export(arguments: Sequence[str]) -> int:
    from tessy.config.data import ExportConfig
    from tessy.config.options import parse

    config = parse(ExportConfig, arguments, prog="tessy export", positional=["run"])
    from tessy.data.export.command import export

    return export(config)


def _compare(arguments: Sequence[str]) -> int:
    from tessy.config.data import CompareConfig
    from tessy.config.options import parse

    config = parse(CompareConfig, arguments, prog="tessy compare", positional=["runs"])
    from tessy.reports.compare.command import compare

    return compare(config)


COMMANDS = {
    "demo": Command("Make samples with two tiny bundled models, on this machine alone", _demo),
    "synthesize": Command("Make training samples that two models write together", _synthesize),
    "plan": Command("Make a pilot; say what the whole file would cost", _plan),
    "doctor": Command("Check servers, models and prompts; say what to mend", _doctor),
    "sample": Command("Sample one model's own responses, to train its predictor on", _sample),
    "annotate": Command("Have a strong model mark the style in sampled thinking", _annotate),
    "train-predictor": Command("Train a boundary predictor on annotations", _train_predictor),
    "evaluate-predictor": Command("Measure how well predictors cut", _evaluate_predictor),
    "view": Command("Write a run as one self-contained page, report.html", _view),
    "compare": Command("Show runs side by side: a table and a page", _compare),
    "mix": Command("Join samples of two runs in a ratio", _mix),
    "filter": Command("Set unfit samples aside, with reasons", _filter),
    "export": Command("Write samples as training data", _export),
}


def usage() -> str:
    """What ``tessy --help`` prints."""
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
    """Whether nobody reads our output any more; if so, the rest of it goes nowhere."""
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
    return _exit_code(COMMANDS[name], given[1:])


def _exit_code(command: Command, arguments: Sequence[str]) -> int:
    """Run ``command``; what the user can mend becomes a message instead of a traceback."""
    try:
        return command.run(arguments)
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
