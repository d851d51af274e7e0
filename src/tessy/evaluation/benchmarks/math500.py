"""``math500``: 500 problems of MATH (Lightman et al., arXiv 2305.20050)."""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import BOXED, Benchmark
from tessy.evaluation.sources.base import HubFile

BENCHMARK = Benchmark(
    name="math500",
    about="problems of the MATH data set",
    rows=500,
    judge="maths",
    files=(
        HubFile(
            "HuggingFaceH4/MATH-500",
            "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
            "test.jsonl",
            "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
        ),
    ),
    fields={"id": "unique_id"},
    instruction=BOXED,
)
