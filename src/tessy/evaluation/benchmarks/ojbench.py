"""``ojbench``: OJBench (Z. Wang et al., arXiv 2506.16395), 232 problems in C++ and in Python."""

from __future__ import annotations

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.base import HubFile
from tessy.evaluation.sources.ojbench import OJBench

BENCHMARK = Benchmark(
    name="ojbench",
    about="hard problems of programming contests, each in C++ and in Python",
    rows=464,
    files=(
        HubFile(
            "He-Ren/OJBench_testdata",
            "61cf9986f22c25d08e1657b03742124099c74353",
            "prompts/full.jsonl",
            "bcc8c94eb1fefb856355aa8b5a3e20cc0a2112f5436c5d83ab686edb417bce2c",
        ),
    ),
    source=OJBench,
)
