"""``gsm8k``: the test split of GSM8K (Cobbe et al., arXiv 2110.14168)."""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import BOXED, Benchmark
from tessy.evaluation.sources.base import HubFile

BENCHMARK = Benchmark(
    name="gsm8k",
    about="grade-school maths problems",
    rows=1319,
    judge="maths",
    files=(
        HubFile(
            "openai/gsm8k",
            "740312add88f781978c0658806c59bc2815b9866",
            "main/test-00000-of-00001.parquet",
            "ee7b8da9e381df27b9e3f7758a159ab2bdaa4dbaa910546cbbc47e0cb44e4f59",
        ),
    ),
    # test.jsonl of GitHub's openai/grade-school-math
    copies=frozenset({"3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"}),
    instruction=BOXED,
)
