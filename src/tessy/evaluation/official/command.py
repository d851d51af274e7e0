"""``tessy judge``: responses for the official judge of a benchmark, and its verdicts on them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tessy.config.evaluation import JudgeConfig
from tessy.core.errors import ConfigError, InputError
from tessy.core.formatting import counted
from tessy.core.records import Evaluation, Key
from tessy.core.registry import find_in_modules
from tessy.evaluation import official
from tessy.evaluation.benchmarks.registry import all_benchmarks
from tessy.evaluation.grading import OUTCOMES
from tessy.evaluation.official.base import OfficialJudge, OfficialVerdict, needs_verdict
from tessy.evaluation.results import SCORES, read_result, result_table
from tessy.runtime.progress import SteadyConsole
from tessy.runtime.summary import summarize, wall_seconds
from tessy.storage import jsonl
from tessy.storage.atomic import new_file
from tessy.storage.run_dir import Run
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import (
    EVALUATIONS,
    iter_failed_rows,
    iter_rows,
    iter_superseded,
    read_config,
)

_NOTHING_TO_JUDGE = (
    "No unjudged response contains a program, so the official judge is not needed. `tessy judge "
    "{0.run} --verdicts {0.export}` scores them as not correct."
)


def judge(config: JudgeConfig) -> int:
    """Write the responses that wait for verdicts, or read verdicts; return the exit code, 0.

    Raises:
        ConfigError: The options are incompatible with each other or with the run.
        InputError: The run or the file of verdicts cannot be used; nothing was changed.
        EngineError: The server of the judge failed; nothing was changed.
    """
    if [config.export, config.verdicts, config.url].count(None) != 2:
        raise ConfigError("pass one of --export FILE, --verdicts FILE and --url URL")
    document = read_config(config.run, EVALUATIONS)
    benchmark = str(document["data_config"].get("benchmark"))
    found = _judge_of(benchmark)
    console = SteadyConsole(stderr=True)
    if config.export is not None:
        count = _export(config.run, found, benchmark, config.export)
        console.print(f"{counted(count, 'response')} in {config.export}.", soft_wrap=True)
        next_step = found.next_step if count else _NOTHING_TO_JUDGE.format(config)
        console.print(next_step, soft_wrap=True, markup=False)
        return 0
    if found.verdicts is None:
        raise ConfigError(
            f"tessy judges all responses to {benchmark}, so none waits for a verdict; pass --export"
        )
    if config.url is not None:
        source, each = config.url, _submit(config, found)
    else:
        assert config.verdicts is not None
        source, each = str(config.verdicts), list(found.verdicts(config.verdicts))
    _judge_rows(config.run, document, source, {verdict.key: verdict for verdict in each})
    console.print(result_table(read_result(config.run)))
    return 0


def _submit(config: JudgeConfig, found: OfficialJudge) -> list[OfficialVerdict]:
    if found.submit is None:
        raise ConfigError(f"--url: {found.name} is not a server; pass --export, then --verdicts")
    rows = [row for row in iter_rows(config.run, EVALUATIONS) if needs_verdict(row)]
    return asyncio.run(found.submit(str(config.url), rows))


def _judge_of(benchmark: str) -> OfficialJudge:
    judges: list[OfficialJudge] = find_in_modules(official, "JUDGE")
    by_name = {name: each for each in judges for name in each.benchmarks}
    if benchmark not in by_name:
        raise ConfigError(
            f"the run evaluates {benchmark}, which has no official judge; expected one of "
            f"{', '.join(sorted(by_name))}"
        )
    return by_name[benchmark]


def _export(run: Path, found: OfficialJudge, benchmark: str, file: Path) -> int:
    """Write the file and return the number of responses in it; does not change the run."""
    every = list(iter_rows(run, EVALUATIONS))
    rows = [row for row in every if found.verdicts is None or needs_verdict(row)]
    if not any(row.outcome == "unjudged" for row in every) and found.verdicts is not None:
        raise ConfigError(f"no response in {run} waits for a verdict")
    expected = all_benchmarks()[benchmark].rows
    problems = len({row.id for row in rows})
    if found.verdicts is None and problems != expected:
        raise ConfigError(
            f"the run has responses to {problems:,} problems, but the official evaluator of "
            f"{benchmark} needs all {expected:,}; resume the run until it is complete"
        )
    rows.sort(key=lambda row: row.key)
    with new_file(file, "choose another --export") as path:
        path.write_bytes(found.export(rows))
    return len(rows)


def _judge_rows(
    directory: Path, document: dict[str, Any], source: str, verdicts: dict[Key, OfficialVerdict]
) -> None:
    """Check all verdicts, then write the judged rows, the scores and the summary of a run."""
    rows = list(iter_rows(directory, EVALUATIONS))
    _check(rows, source, verdicts)
    judged = [_judged(row, verdicts.get(row.key)) for row in rows if row.outcome == "unjudged"]
    last = [document, *document["resumed"]][-1]
    with Run.open(
        directory,
        EVALUATIONS,
        config=last["config"],
        data_config=document["data_config"],
        software=last.get("software"),
    ) as run:

        async def write() -> None:
            await asyncio.gather(*map(run.replace, judged))

        asyncio.run(write())
        now: Iterator[Evaluation] = iter_rows(directory, EVALUATIONS)
        run.write_summary(
            summarize(
                now,
                iter_failed_rows(directory, EVALUATIONS),
                iter_superseded(directory, EVALUATIONS),
                wall_seconds(RunPaths(directory).summary),
            )
        )
        _write_scores(directory)


def _check(rows: Sequence[Evaluation], source: str, verdicts: dict[Key, OfficialVerdict]) -> None:
    known = {row.key: row for row in rows}
    expected = {row.key for row in rows if needs_verdict(row)}
    for name, sample in sorted(verdicts.keys() - known.keys()):
        raise InputError(
            f"{source} has a verdict on sample {sample} of {name}, which is not in the run; "
            "pass the verdicts on the responses of this run"
        )
    for (name, sample), verdict in sorted(verdicts.items()):
        if verdict.answer is not None and verdict.answer != known[name, sample].answer:
            raise InputError(
                f"{source} has a verdict on another response as sample {sample} of {name}; pass "
                "the verdicts on the responses of this run"
            )
    if expected and not verdicts:
        raise InputError(f"{source} has no verdicts; pass the output of the official judge")
    missing = sorted(expected - verdicts.keys())
    if missing:
        name, sample = missing[0]
        more = f", nor on {len(missing) - 1:,} others" if missing[1:] else ""
        raise InputError(
            f"{source} has no verdict on sample {sample} of {name}{more}; judge all exported "
            "responses"
        )


def _judged(row: Evaluation, verdict: OfficialVerdict | None) -> Evaluation:
    if row.reason is not None:
        return row.model_copy(update={"outcome": OUTCOMES[row.reason]})
    if row.final_answer is None:
        return row.model_copy(update={"outcome": "no_answer"})
    assert verdict is not None  # checked
    detail = verdict.verdict if verdict.outcome == "judge_error" else row.detail
    return row.model_copy(
        update={"outcome": verdict.outcome, "rule": verdict.verdict, "detail": detail}
    )


def _write_scores(directory: Path) -> None:
    result = read_result(directory).to_json()
    with suppress(OSError, ValueError, AttributeError, TypeError):  # missing, or of another format
        before = json.loads((directory / SCORES).read_bytes())
        result["benchmark"] = {**before["benchmark"], **result["benchmark"]}
        if "sandbox" in before:
            result["sandbox"] = before["sandbox"]
    jsonl.write_json(directory / SCORES, result)
