"""``lcb-v6``: LiveCodeBench, the problems that release 6 added (January to April 2025).

Source: N. Jain et al., arXiv 2403.07974. The paper of TESSY evaluates these problems.
"""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.livecodebench import LiveCodeBench, release_file

BENCHMARK = Benchmark(
    name="lcb-v6",
    about="programming problems of contests, 2025",
    rows=175,
    files=(release_file(6),),
    source=LiveCodeBench,
)
