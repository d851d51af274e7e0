"""All benchmarks by name: every module of this package that defines ``BENCHMARK``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tessy.core.registry import find_in_modules
from tessy.evaluation import benchmarks
from tessy.evaluation.benchmarks.base import Benchmark


@cache
def all_benchmarks() -> Mapping[str, Benchmark]:
    """Return the benchmarks by name."""
    found: list[Benchmark] = find_in_modules(benchmarks, "BENCHMARK")
    return {benchmark.name: benchmark for benchmark in found}
