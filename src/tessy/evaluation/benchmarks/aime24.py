"""``aime24``: both papers of the AIME 2024."""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.aime import INSTRUCTION, whole_number
from tessy.evaluation.sources.base import HubFile

BENCHMARK = Benchmark(
    name="aime24",
    about="problems of the AIME 2024",
    rows=30,
    judge="maths",
    files=(
        HubFile(
            "HuggingFaceH4/aime_2024",
            "2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
            "data/train-00000-of-00001.parquet",
            "26139847601a5037c237d5928b195e7260ca8074cf4f264b794af42847f79ccf",
        ),
    ),
    instruction=INSTRUCTION,
    reference=whole_number,
)
