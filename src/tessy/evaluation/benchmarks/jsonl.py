"""``jsonl``: any file of problems with reference answers, or with choices."""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import Benchmark

BENCHMARK = Benchmark(name="jsonl", about="problems of a file")
