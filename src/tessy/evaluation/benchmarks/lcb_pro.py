"""``lcb-pro``: LiveCodeBench-Pro (Z. Zheng et al., arXiv 2506.11928), the problems with tests."""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.base import HubFile
from tessy.evaluation.sources.lcb_pro import LiveCodeBenchPro

_QUARTERS = ("2024_10_12", "2025_1_3", "2025_4_6", "2025_7_9")

BENCHMARK = Benchmark(
    name="lcb-pro",
    about="hard problems of programming contests, in C++",
    rows=706,
    files=tuple(
        HubFile(
            "QAQAQAQAQ/LiveCodeBench-Pro",
            "adebffce047dddb7768a86bace6aea4f7425e3bc",
            f"data/quater_{quarter}-00000-of-00001.parquet",  # the data set's spelling
        )
        for quarter in _QUARTERS
    ),
    source=LiveCodeBenchPro,
)
