"""``tessy synthesize`` and ``tessy sample``: from problems to a run directory."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from textwrap import shorten
from typing import Any

from rich.console import Console
from rich.text import Text

from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig
from tessy.core.errors import (
    EXIT_INTERRUPTED,
    BadRowsError,
    RowFault,
    TessyError,
    reason_label,
    reason_labels,
)
from tessy.core.formatting import tally
from tessy.core.records import Key
from tessy.inference.http.address import without_credentials
from tessy.runtime.budget import BudgetTracker
from tessy.runtime.log import log_file, software
from tessy.runtime.progress import SteadyConsole
from tessy.runtime.summary import summarize, wall_seconds
from tessy.runtime.terminal import summary_table, visible
from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically
from tessy.storage.problems import LoadedProblems
from tessy.storage.run_config import AnyRowKind, prompt_date
from tessy.storage.run_dir import Run
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import (
    iter_failed_rows,
    iter_rows,
    iter_superseded,
    read_config,
)
from tessy.synthesis.data_config import WEIGHT_NAMES, data_config, data_names, weight_digests
from tessy.synthesis.output import SAMPLES, RunOutput
from tessy.synthesis.problems import (
    ChangedProblems,
    load_run_problems,
    prompt_faults,
    with_system_prompt,
)
from tessy.synthesis.session import RunConfig, SessionResult, SynthesisSession
from tessy.synthesis.setup import (
    FORMAT_NAMES,
    check_folders,
    check_servers,
    formats,
    load_models,
    load_renderers,
    models,
)
from tessy.synthesis.strategies.registry import unread_options

EXIT_NOTHING_FINISHED = 1
EXIT_BUDGET = 4

_DATA_NAMES = data_names(SynthesizeConfig, SampleConfig) | {*FORMAT_NAMES, *WEIGHT_NAMES, "command"}

log = logging.getLogger(__name__)


def synthesize(config: SynthesizeConfig) -> int:
    """Generate every requested sample; can be interrupted and resumed at any time.

    Returns:
        The exit code: 0; 130 if Ctrl-C stopped the run gracefully; 4 if its budget did; 1 if every
        sample of the run failed.

    Raises:
        InputError: Options, problems, models or the run directory are unusable; nothing started.
        EngineError: The servers failed permanently; finished samples are kept.
    """
    return run_samples(config).exit_code


def sample(config: SampleConfig) -> int:
    """Generate every requested response of a model; returns and raises as :func:`synthesize`."""
    return run_samples(config).exit_code


def _check_run(config: RunConfig, output: RunOutput) -> dict[str, Any]:
    """Refuse unusable options and run directories, before anything is loaded.

    Returns the recorded options of a run that will be resumed, else an empty dict.
    """
    check_servers(config)
    check_folders(config)
    return Run.check(
        config.out,
        output.kind,
        data_config=_data(config, output),
        known=_DATA_NAMES | output.data.keys(),
        later=FORMAT_NAMES | WEIGHT_NAMES,
        fresh=config.fresh,
    )


def _dated(config: RunConfig, kind: AnyRowKind) -> RunConfig:
    """Return the options with the date of the run in ``out``, or of today, if they have none."""
    if config.date is not None:
        return config
    date = None
    if RunPaths(config.out).config.exists() and not config.fresh:
        date = prompt_date(read_config(config.out, kind))
    return config.model_copy(update={"date": date or datetime.date.today()})


def _data(config: RunConfig, output: RunOutput) -> dict[str, Any]:
    # `annotate` requires a run of `sample`, which is therefore recorded.
    command = {"command": "sample"} if isinstance(config, SampleConfig) else {}
    return {**command, **data_config(config), **output.data}


def _recorded_options(config: RunConfig, output: RunOutput) -> dict[str, Any]:
    options = (output.options or config).model_dump(mode="json")
    return without_credentials({**options, **output.facts})


def _weights(config: RunConfig, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return digests of the models' weights in this process.

    A resumed run keeps the recorded digests of models that are now on servers. A run of a version
    that recorded none stays without.
    """
    found = weight_digests(models(config))
    if not recorded:
        return found
    kept = {name: recorded[name] for name in recorded.keys() & WEIGHT_NAMES}
    return {name: found.get(name, digest) for name, digest in kept.items()}


def run_samples(
    config: RunConfig,
    loaded: LoadedProblems | None = None,
    chosen: Collection[Key] | None = None,
    output: RunOutput = SAMPLES,
) -> SessionResult:
    """Run :func:`synthesize` or :func:`sample`, with progress and a final table on standard error.

    Args:
        config: Options of the run.
        loaded: Problems that are used instead of those of ``config.problems``.
        chosen: Generate only samples with these keys; None: all.
        output: What is written for a sample.
    """
    console = SteadyConsole(stderr=True)
    config = _dated(config, output.kind)
    recorded = _check_run(config, output)
    loaded = loaded or load_run_problems(config)
    problems = [with_system_prompt(config, problem) for problem in loaded.problems]
    loaded = replace(loaded, problems=tuple(problems))
    data = _data(config, output) | _weights(config, recorded)
    # Tokenizers load slowly: a run without missing samples needs none.
    known = {name: recorded[name] for name in recorded.keys() & FORMAT_NAMES}
    renderers = {} if known else load_renderers(config)
    changed = ChangedProblems(loaded)
    with Run.open(
        config.out,
        output.kind,
        config=_recorded_options(config, output),
        data_config=data | (known or formats(renderers)),
        known=_DATA_NAMES | output.data.keys(),
        software=software(),
        fresh=config.fresh,
        seen=changed.look_at,
    ) as run:
        changed.refuse(run.paths.directory)
        tracker = BudgetTracker()
        if isinstance(config, SynthesizeConfig):
            tracker = BudgetTracker(config.budget_hours, config.budget_tokens)
        with log_file(run.paths.log):
            _warn_of_input(run, config, loaded.faults)
            synthesis = SynthesisSession(config, loaded, run, console, tracker, chosen, output)
            left: int | None = None
            try:
                missing = synthesis.missing()
                if missing:
                    synthesis.load_spending()
                if (missing or chosen is not None) and not tracker.empty:
                    if known:
                        renderers = load_renderers(config)
                        run.check_same(data | formats(renderers))
                    if not config.skip_bad_rows:
                        faults = prompt_faults(loaded, [renderers[a] for a in models(config)])
                        if faults:
                            raise BadRowsError(faults)
                    left = asyncio.run(synthesis.execute(missing, load_models(config, renderers)))
            except TessyError:
                with suppress(TessyError):  # the first error is the one to show
                    _summarise(run, output.kind, tracker.seconds)
                raise
            summary = _summarise(run, output.kind, tracker.seconds, synthesis.result)
        console.print(summary_table(summary))
    synthesis.result.exit_code = _report_end(run, tracker, left, summary, console)
    return synthesis.result


def _warn_of_input(run: Run[Key], config: RunConfig, faults: Sequence[RowFault]) -> None:
    """Record bad rows, and warn of them and of options without effect."""
    if faults:
        path = run.paths.directory / "bad_rows.jsonl"
        write_atomically(path, b"".join(jsonl.dump_line(asdict(fault)) for fault in faults))
        log.warning("skipped %d bad rows: %s", len(faults), path)
    if isinstance(config, SynthesizeConfig):
        for sentence in unread_options(config):
            log.warning("%s", sentence)


def _report_end(
    run: Run[Key],
    tracker: BudgetTracker,
    left: int | None,
    summary: Mapping[str, Any],
    console: Console,
) -> int:
    """Print how the run ended, with samples ``left`` in flight by a stop; return the exit code."""
    if left is None and not tracker.empty:
        if run.done or not run.failed:
            return 0
        failures = summary["failures"]
        reasons = tally(reason_labels(failures))
        common = max(failures, key=failures.get)
        last = [failure.detail for failure in run.failed.values() if failure.reason == common][-1]
        message = (
            f"None of {len(run.failed)} samples could be finished ({reasons}); "
            f"{run.paths.failures} has their texts so far, and `tessy doctor` with the same "
            "options generates one sample and explains what to fix\n"
            f"The last one ({reason_label(common)}): {shorten(last, 300, placeholder=' …')}"
        )
        console.print(Text(visible(message)), soft_wrap=True)
        return EXIT_NOTHING_FINISHED
    kept = f"; {left} samples in flight are kept" if left else ""
    by, command = "", "The same command"
    if tracker.empty:
        by, command = f" by {tracker.empty}", "The same command with a larger budget"
    message = f"Stopped gracefully{by}{kept}. {command} resumes it."
    console.print(message, soft_wrap=True)  # one line, also where the output is no terminal
    return EXIT_BUDGET if tracker.empty else EXIT_INTERRUPTED


def _summarise(
    run: Run[Key], kind: AnyRowKind, seconds: float, session: SessionResult | None = None
) -> dict[str, Any]:
    """Summarise all rows; the wall clock covers all sessions, the servers' counts this one."""
    directory = run.paths.directory
    seconds += wall_seconds(run.paths.summary)
    summary = summarize(
        iter_rows(directory, kind),
        iter_failed_rows(directory, kind),
        iter_superseded(directory, kind),
        seconds,
    )
    if session is not None and session.progress is not None and session.counted:
        summary["session"] = {
            "generated": {a: session.progress.generated_by(a) for a in session.counted},
            "servers": session.counted,
        }
    run.write_summary(summary)
    return summary
