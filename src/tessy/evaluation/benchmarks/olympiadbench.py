"""``olympiadbench``: OlympiadBench (He et al., arXiv 2402.14008), English maths."""

from __future__ import annotations

from functools import partial

from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.sources.base import AnswerSource, HubFile
from tessy.evaluation.sources.olympiadbench import convert_olympiadbench

BENCHMARK = Benchmark(
    name="olympiadbench",
    about="maths problems of olympiads",
    rows=674,
    judge="olympiad",
    files=(
        HubFile(
            "Hothan/OlympiadBench",
            "91184b52131e7fc9455fef848035173aea8cc01a",
            "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet",
        ),
    ),
    source=partial(AnswerSource, convert=convert_olympiadbench),
)
