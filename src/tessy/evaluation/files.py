"""The files of a benchmark: where they are, and whether they are the expected ones."""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tessy.config.evaluation import EvaluateConfig
from tessy.core.errors import ConfigError, InputError
from tessy.evaluation.benchmarks.base import OWN_FILE, Benchmark
from tessy.evaluation.benchmarks.registry import all_benchmarks
from tessy.evaluation.sources.base import BenchmarkData
from tessy.storage.sources import resolve_sources
from tessy.storage.tables import is_readable

_DIGITS = 64  # of a whole checksum

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundBenchmark:
    """A benchmark and its data; ``checksums`` are SHA-256 by file."""

    benchmark: Benchmark
    data: BenchmarkData
    checksums: Mapping[Path, str]

    @property
    def name(self) -> str:
        """Name of the benchmark, or of the user's file."""
        return self.benchmark.name or self.data.files[0].name

    @property
    def sha256(self) -> str:
        """Checksum of the file; of several files, that of their checksums."""
        sums = list(self.checksums.values())
        return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()

    @property
    def is_known(self) -> bool:
        """Whether the data are those of a benchmark given by its name, as far as checksums show.

        True for any file of a benchmark without known checksums.
        """
        return bool(self.benchmark.name) and not self._other_files()

    def _other_files(self) -> Mapping[Path, str]:
        """Return the local files with an unknown checksum, if the benchmark has known ones."""
        known = _known(self.benchmark)
        if self.data.from_hub or not known:
            return {}
        return {
            file: sha256
            for file, sha256 in self.checksums.items()
            if not any(map(sha256.startswith, known))
        }

    def warn_of_other_files(self) -> None:
        """Warn about local files with an unknown checksum; call this after reading them."""
        for file, sha256 in self._other_files().items():
            log.warning(
                "%s is not a known file of %s (SHA-256 %s): its scores may differ from others",
                file,
                self.benchmark.name,
                sha256,
            )


def find_benchmark(config: EvaluateConfig) -> FoundBenchmark:
    """Return the benchmark and its files, downloaded if need be.

    Raises:
        ConfigError: There is no such benchmark, or an option does not apply to it.
        InputError: A file cannot be read, or is not that of the benchmark.
    """
    benchmark = all_benchmarks().get(config.benchmark)
    if benchmark is None:
        data = BenchmarkData((_own_file(config),))
        benchmark = OWN_FILE
    elif config.data is not None:
        data = _local(benchmark, config.data)
    else:
        data = _from_hub(benchmark)
    checksums = {file: checksum(file) for file in data.files}
    if data.from_hub:
        _check_hub_files(benchmark, checksums)
    whole = {sha256 for sha256 in _known(benchmark) if len(sha256) == _DIGITS}
    known = frozenset(file for file, sha256 in checksums.items() if sha256 in whole)
    data = BenchmarkData(data.files, data.folder, data.from_hub, known)
    return FoundBenchmark(benchmark, data, checksums)


def _own_file(config: EvaluateConfig) -> Path:
    file = Path(config.benchmark)
    names = list(all_benchmarks())
    if not file.is_file():
        close = difflib.get_close_matches(config.benchmark.lower(), names, n=2)
        raise ConfigError(
            f"--benchmark: {config.benchmark!r} is neither a file nor a benchmark; "
            + (f"did you mean {' or '.join(close)}? Expected" if close else "expected")
            + f" a file of problems, or one of {', '.join(names)}"
        )
    if config.data is not None:
        raise ConfigError(
            f"--data: --benchmark {config.benchmark} is a file already; remove --data, or "
            f"name one of {', '.join(names)}"
        )
    return file


def _local(benchmark: Benchmark, path: Path) -> BenchmarkData:
    """Return the file, or the expected files that a folder has."""
    if path.is_file():
        return BenchmarkData((path,))
    if not path.is_dir():
        raise InputError(f"--data: there is no file {path}; check the path")
    expected = [Path(file.path) for file in benchmark.files]
    places = [(path / name, path / name.name) for name in expected]
    files = [next((p for p in both if p.is_file()), None) for both in places]
    found = [file for file in files if file is not None]
    if not found:  # under another name: a single file is unambiguous
        found = [f for f in sorted(path.iterdir()) if f.is_file() and is_readable(f.name)]
        if len(found) != 1:
            names = ", ".join(name.name for name in expected)
            raise InputError(f"--data: {path} has no file {names}; pass the file itself")
    return BenchmarkData(tuple(found), path)


def _from_hub(benchmark: Benchmark) -> BenchmarkData:
    try:
        files = resolve_sources([file.source for file in benchmark.files])
    except InputError as error:
        what = "a local file" if len(benchmark.files) == 1 else "a folder with the files"
        raise InputError(f"{error}; pass {what} of {benchmark.name} with --data") from error
    return BenchmarkData(tuple(files), from_hub=True)


def _check_hub_files(benchmark: Benchmark, checksums: Mapping[Path, str]) -> None:
    for expected, (file, sha256) in zip(benchmark.files, checksums.items(), strict=True):
        if not sha256.startswith(expected.sha256):
            raise InputError(
                f"the file of {benchmark.name} from the hub has the SHA-256 {sha256}, which is not "
                f"the expected one; delete {file}, or pass a file that you trust with --data"
            )


def _known(benchmark: Benchmark) -> list[str]:
    """Return known checksums of the benchmark's files, some only by their first digits."""
    sums = (*(file.sha256 for file in benchmark.files), *benchmark.copies)
    return [sha256 for sha256 in sums if sha256]


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file; InputError if it cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; check the path") from error
