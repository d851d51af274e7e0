"""``lcb-v5-window``: LiveCodeBench, release 5 from 2024-08-01 to 2025-02-01.

Most reports state this period. The paper of TESSY states it too, but its scores are those of
``lcb-v5``. Source: N. Jain et al., arXiv 2403.07974.
"""

from __future__ import annotations

import datetime
from functools import partial

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.livecodebench import LiveCodeBench, release_file

BENCHMARK = Benchmark(
    name="lcb-v5-window",
    about="programming problems of contests, August 2024 to January 2025",
    rows=279,
    files=tuple(release_file(number) for number in range(1, 6)),
    source=partial(LiveCodeBench, period=(datetime.date(2024, 8, 1), datetime.date(2025, 2, 1))),
)
