"""``tessy mix``: samples of two runs in a ratio, each key once (the paper's Teacher-Mix)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.text import Text

from tessy.config.data import MixConfig
from tessy.core.errors import ConfigError, RunError
from tessy.core.formatting import counted
from tessy.core.records import Key, Trajectory, problem_digest
from tessy.core.seeds import derive_seed
from tessy.data.derived_run import DerivedRun, source_rows
from tessy.runtime.terminal import visible
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import read_config

_RATIO = re.compile("([0-9]{1,9}):([0-9]{1,9})")

Drawn = dict[Key, int]  # key to source run: 0 the first, 1 the second


def mix(config: MixConfig, console: Console | None = None) -> int:
    """Write the new run, print what it contains, and return the exit code.

    Rows are copied byte for byte, in the order of the first run, followed by those of the second.

    Raises:
        InputError: The runs are incompatible, have too few samples for the ratio, or cannot be
            read; or ``out`` cannot be used.
        StorageError: The new run could not be written and was removed.
    """
    console = console or Console()
    ratio = _ratio(config.ratio)
    runs = (config.first, config.second)
    _check_formats(runs)
    options = config.model_dump(mode="json", exclude={"fresh"})
    with DerivedRun(config.out, by="mix", sources=runs, options=options, fresh=config.fresh) as run:
        first, second = _problems(config.first), _problems(config.second)
        _check_problems(runs, first, second)
        distinct = len(first.keys() | second.keys())
        counts = split(len(first), len(second), distinct, ratio)
        if 0 in counts:
            raise RunError(
                f"--ratio {config.ratio}: {runs[0]} has {counted(len(first), 'finished sample')} "
                f"and {runs[1]} has {len(second):,}, too few to take one from each in this ratio; "
                "choose another ratio, or finish the runs"
            )
        drawn = draw(first.keys(), second.keys(), counts, config.seed)
        _copy(run, runs, {key: drawn[key] for key in (*first, *second) if key in drawn})
        run.notes["mix"] = {
            "ratio": config.ratio,
            "seed": config.seed,
            "taken": {"first": counts[0], "second": counts[1]},
        }
    report = _report(config, counts, left_out=distinct - sum(counts))
    console.print(Text(visible(report)), soft_wrap=True)
    return 0


def split(first: int, second: int, distinct: int, ratio: tuple[int, int]) -> tuple[int, int]:
    """Return the number of samples to take from runs of ``first`` and ``second`` keys.

    The total is as large as possible. ``a`` samples of the first run and ``b`` of the second can be
    taken, each key once, if and only if ``a <= first``, ``b <= second`` and ``a + b <= distinct``
    (Hall's condition). The total is divided into the integers nearest to the ratio; a tie goes to
    the first run if it has enough samples.
    """
    parts = sum(ratio)
    # Rounding changes a part by at most half a sample, hence the bounds of first + ½, second + ½.
    total = min(
        distinct,
        (2 * first + 1) * parts // (2 * ratio[0]),
        (2 * second + 1) * parts // (2 * ratio[1]),
    )
    share, rest = divmod(2 * total * ratio[0] + parts, 2 * parts)
    # With no rest the share is exactly halfway, so one less is equally near.
    nearest = share - 1 if rest == 0 and share > first else share
    return nearest, total - nearest


def draw(first: Set[Key], second: Set[Key], counts: tuple[int, int], seed: int) -> Drawn:
    """Return the keys to take and their source runs, ``counts`` from each (:func:`split`).

    The draw does not depend on the order of the keys.
    """
    # A shared key is taken from the first run only while the second run keeps enough keys.
    spare = len(second) - counts[1]
    drawn: Drawn = {}
    for key in _shuffled(first, seed, "first"):
        if len(drawn) == counts[0]:
            break
        if key in second:
            if not spare:
                continue
            spare -= 1
        drawn[key] = 0
    for key in _shuffled(second - drawn.keys(), seed, "second")[: counts[1]]:
        drawn[key] = 1
    return drawn


def _shuffled(keys: Iterable[Key], seed: int, run: str) -> list[Key]:
    return sorted(keys, key=lambda key: (derive_seed("mix", seed, run, *key), key))


def _ratio(text: str) -> tuple[int, int]:
    match = _RATIO.fullmatch(text)
    if match is None:
        raise ConfigError(f"--ratio: expected two whole numbers such as 1:1, got {text!r}")
    first, second = map(int, match.groups())
    if not first or not second:
        raise ConfigError(f"--ratio {text}: both numbers must be at least 1")
    return first, second


def _check_formats(runs: tuple[Path, Path]) -> None:
    if runs[0].resolve() == runs[1].resolve():
        raise RunError(f"{runs[0]} is given twice; pass two different runs")
    configs = (read_config(run)["data_config"] for run in runs)
    # A run of `tessy sample` by the teacher has only the teacher's format.
    first, second = (data.get("student.format", data.get("teacher.format")) for data in configs)
    if first != second:
        raise RunError(
            f"{runs[0]} and {runs[1]} have the chat formats of different students, so no model "
            "can be trained on both; pass runs with the same student"
        )


def _problems(run: Path) -> dict[Key, str]:
    return {row.key: problem_digest(row.messages) for _, row in source_rows(run)}


def _check_problems(
    runs: tuple[Path, Path], first: Mapping[Key, str], second: Mapping[Key, str]
) -> None:
    digests = {name: digest for (name, _), digest in first.items()}
    for (name, _), digest in second.items():
        if digests.get(name, digest) != digest:
            raise RunError(
                f"{runs[0]} and {runs[1]} have different problems (or system messages) with the "
                f"id {name!r}; mix runs of the same file of problems"
            )


def _copy(run: DerivedRun, runs: tuple[Path, Path], drawn: Drawn) -> None:
    places = [jsonl.last_rows(RunPaths(path).row_files(), jsonl.row_key) for path in runs]
    with ExitStack() as stack:
        files: dict[Path, BinaryIO] = {}
        for key, source in drawn.items():
            path, offset = places[source][key]
            if path not in files:
                files[path] = stack.enter_context(path.open("rb"))
            files[path].seek(offset)
            line = files[path].readline().rstrip(b"\r\n") + b"\n"
            run.add(Trajectory.model_validate(jsonl.loads(line)), line)


def _report(config: MixConfig, counts: tuple[int, int], left_out: int) -> str:
    rest = "each problem and sample index occurs once"
    if left_out:
        rest = f"{counted(left_out, 'sample')} left out to keep the ratio"
    first, second = _ratio(config.ratio)
    exact = counts[0] * second == counts[1] * first
    ratio = config.ratio if exact else f"as close to {config.ratio} as possible"
    return (
        f"{config.out}: {counted(sum(counts), 'sample')}, {counts[0]:,} from {config.first} and "
        f"{counts[1]:,} from {config.second} ({ratio}); {rest}."
    )
