"""``aime25``: both papers of the AIME 2025."""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.aime import INSTRUCTION, whole_number
from tessy.evaluation.sources.base import HubFile

BENCHMARK = Benchmark(
    name="aime25",
    about="problems of the AIME 2025",
    rows=30,
    judge="maths",
    files=(
        HubFile(
            "math-ai/aime25",
            "563bb8404243c5f09de6ec262f2db674fe5bce9b",
            "test.jsonl",
            "b4e273c02d3e7fe1b74b59eae768fc8230bfb0f79539890cb56f4361caac0331",
        ),
    ),
    instruction=INSTRUCTION,
    reference=whole_number,
)
