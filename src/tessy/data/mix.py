"""``tessy mix``: samples of two runs in a ratio, each key once (the paper's Teacher-Mix).

Both runs asked the same problems, or some of them, so a key they share can come from either; the
seed draws from which. Nothing is made anew: rows stay as they are, to the byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Console
from rich.text import Text

from tessy.config.data import MixConfig
from tessy.core.errors import ConfigError, RunError
from tessy.core.formatting import counted
from tessy.core.records import Key, Trajectory, question_digest
from tessy.core.seeds import derive_seed
from tessy.data.derived_run import DerivedRun, source_rows
from tessy.runtime.terminal import visible
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import read_config

_RATIO = re.compile("([0-9]{1,9}):([0-9]{1,9})")

Drawn = dict[Key, int]  # which run a key comes from: 0 the first, 1 the second


def mix(config: MixConfig, console: Console | None = None) -> int:
    """Write the new run and say what was taken from where; the exit code.

    The rows stand in the order of the first run, then in that of the second.

    Raises:
        InputError: The runs do not fit together, hold too few samples for the ratio, or cannot be
            read; or ``out`` cannot be used.
        StorageError: The new run could not be written; nothing of it is left.
    """
    console = console or Console()
    ratio = _ratio(config.ratio)
    runs = (config.first, config.second)
    _check_formats(runs)
    options = config.model_dump(mode="json", exclude={"fresh"})
    with DerivedRun.create(
        config.out, by="mix", sources=runs, options=options, fresh=config.fresh
    ) as run:
        first, second = _questions(config.first), _questions(config.second)
        _check_questions(runs, first, second)
        counts = split(len(first), len(second), len(first.keys() | second.keys()), ratio)
        if 0 in counts:
            raise RunError(
                f"--ratio {config.ratio}: {runs[0]} has {len(first)} finished samples and "
                f"{runs[1]} {len(second)}, too few for one of each in this ratio; choose another "
                "ratio, or finish the runs"
            )
        drawn = draw(first.keys(), second.keys(), counts, config.seed)
        _copy(run, runs, {key: drawn[key] for key in (*first, *second) if key in drawn})
        run.notes["mix"] = {
            "ratio": config.ratio,
            "seed": config.seed,
            "taken": {"first": counts[0], "second": counts[1]},
        }
    left_out = len(first.keys() | second.keys()) - sum(counts)
    console.print(Text(visible(_sentence(config, counts, left_out))), soft_wrap=True)
    return 0


def split(first: int, second: int, together: int, ratio: tuple[int, int]) -> tuple[int, int]:
    """How many samples to take of each run: as many as possible, as near to the ratio as possible.

    ``a`` of the first and ``b`` of the second can be taken, each key once, if and only if
    ``a <= first``, ``b <= second`` and ``a + b <= together`` (Hall's condition). Of a total the
    parts are the whole numbers nearest to the ratio; a tie goes to whichever fits, then to the
    first run.

    Args:
        first: Keys of the first run.
        second: Keys of the second run.
        together: Different keys of both.
        ratio: Two positive numbers.
    """
    parts = sum(ratio)
    # Rounding moves a part by half a sample at the most, so the exact bounds are at most this off.
    total = min(
        together,
        (2 * first + 1) * parts // (2 * ratio[0]),
        (2 * second + 1) * parts // (2 * ratio[1]),
    )
    share, rest = divmod(2 * total * ratio[0] + parts, 2 * parts)
    # rest == 0: the share is exactly half-way, and one less is as near.
    nearest = share - 1 if rest == 0 and (share > first) else share
    return nearest, total - nearest


def draw(first: Set[Key], second: Set[Key], counts: tuple[int, int], seed: int) -> Drawn:
    """Return which keys to take, and from which run.

    Args:
        first: Keys of the first run.
        second: Keys of the second run.
        counts: How many to take of each, as :func:`split` allows.
        seed: The same seed, keys and counts give the same draw, in whatever order the keys come.
    """
    # A key both have can go to the first run only while the second keeps enough.
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
        raise ConfigError(
            f"--ratio {text}: both numbers must be at least 1; a run alone needs no mixing"
        )
    return first, second


def _check_formats(runs: tuple[Path, Path]) -> None:
    """Make sure that the rows of both are written in one chat format and counted in its tokens."""
    if runs[0].resolve() == runs[1].resolve():
        raise RunError(f"{runs[0]} is given twice; name two runs")
    first, second = (_format(read_config(run)["data_config"]) for run in runs)
    if first != second:
        raise RunError(
            f"{runs[0]} and {runs[1]} are in the chat formats of different students, and no model "
            "can be trained on both; name runs with one student"
        )


def _format(data: Mapping[str, Any]) -> Any:  # noqa: ANN401  # a JSON value, only compared
    """Return the digest of the tokenizer and template of the rows' format."""
    # A run of `sample` has one model and its format.
    return data.get("student.format", data.get("teacher.format"))


def _questions(run: Path) -> dict[Key, str]:
    """Return the keys of a run, in its order, and a digest of what was asked."""
    return {row.key: question_digest(row.messages) for _, row in source_rows(run)}


def _check_questions(
    runs: tuple[Path, Path], first: Mapping[Key, str], second: Mapping[Key, str]
) -> None:
    asked = {name: digest for (name, _), digest in first.items()}
    for (name, _), digest in second.items():
        if asked.get(name, digest) != digest:
            raise RunError(
                f"{runs[0]} and {runs[1]} hold different problems (or system messages) under the "
                f"id {name!r}; mix runs that were made of one file of problems"
            )


def _copy(run: DerivedRun, runs: tuple[Path, Path], drawn: Drawn) -> None:
    """Add the rows of ``drawn`` in its order."""
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


def _sentence(config: MixConfig, counts: tuple[int, int], left_out: int) -> str:
    rest = "no sample was left out"
    if left_out:
        rest = f"{counted(left_out, 'sample')} left out to keep the ratio"
    wanted = _ratio(config.ratio)
    exact = counts[0] * wanted[1] == counts[1] * wanted[0]
    ratio = config.ratio if exact else f"{config.ratio} as nearly as whole samples allow"
    return (
        f"{config.out}: {sum(counts):,} samples, {counts[0]:,} of {config.first} and "
        f"{counts[1]:,} of {config.second} ({ratio}); {rest}."
    )
