"""``lcb-v5``: LiveCodeBench, the problems that release 5 added (October 2024 to January 2025).

Source: N. Jain et al., arXiv 2403.07974. The paper of TESSY evaluates these problems.
"""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.livecodebench import LiveCodeBench, release_file

BENCHMARK = Benchmark(
    name="lcb-v5",
    about="programming problems of contests, October 2024 to January 2025",
    rows=167,
    files=(release_file(5),),
    source=LiveCodeBench,
)
