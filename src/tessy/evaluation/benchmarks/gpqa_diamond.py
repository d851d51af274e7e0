"""``gpqa-diamond``: the hardest questions of GPQA (Rein et al., arXiv 2311.12022)."""

from __future__ import annotations

from functools import partial

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.base import AnswerSource, HubFile
from tessy.evaluation.sources.gpqa import convert_gpqa

BENCHMARK = Benchmark(
    name="gpqa-diamond",
    about="multiple-choice questions of natural sciences for experts",
    rows=198,
    judge="choice",
    files=(
        HubFile(
            "Idavidrein/gpqa",
            "633f5ee89ab8ad4522a9f850766b73f62147ffdd",
            "gpqa_diamond.csv",
        ),
    ),
    copies=frozenset({"41d1213c"}),  # gpqa_diamond.csv of openai/simple-evals
    source=partial(AnswerSource, convert=convert_gpqa),
)
