"""Train the boundary predictors of the bundled models: ``python -m tessy.lab.train_predictors``.

The same commands as for other pairs (docs/predictors.md), with a rule as the annotator.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from tessy.boundary.annotation.annotate import annotate
from tessy.boundary.evaluation.evaluate import evaluate_predictor
from tessy.boundary.training.train import train_predictor
from tessy.config.predictors import (
    AnnotateConfig,
    EvaluatePredictorConfig,
    SampleConfig,
    TrainPredictorConfig,
)
from tessy.core.records import AUTHORS, Author
from tessy.lab.bundled import ANSWER_TOKENS, THINKING_TOKENS, model_path
from tessy.lab.write_problems import write_problems
from tessy.synthesis.run import sample

RULE = "tessy.lab.marker:mark"
PROBLEM_COUNT = 3000
BASE: Author = "student"  # for both: the larger teacher as base does not cut better
LEARNING_RATE = 3e-3  # for 0.3 M parameters; the command's default is for 600 M
HELD_OUT = 0.1  # share of the problems: 300 to measure on


def make_predictors(out: Path, seed: int, *, count: int = PROBLEM_COUNT) -> int:
    """Run the chain for both models; return the exit code.

    Outputs are folders in ``out`` (``student_predictor``, …), kept in any case; they are
    reproducible on the same machine.
    """
    code = train_pair(out, seed, count=count, models={a: model_path(a) for a in AUTHORS})
    return code or next(filter(None, (_evaluate(author, out, seed) for author in AUTHORS)), 0)


def train_pair(out: Path, seed: int, *, count: int, models: Mapping[Author, Path]) -> int:
    """Sample from ``models``, mark their style, and train their predictors; return the exit code.

    Both predictors start from the student in ``models``.
    """
    torch.set_num_threads(1)  # one thread sums in one order: the same weights in every run
    out.mkdir(parents=True, exist_ok=True)
    problems = out / "questions.jsonl"
    write_problems(problems, count, seed)
    for author, model in models.items():
        code = _annotate_responses(author, model, out, problems, seed)
        code = code or train_one(author, out, seed, base=models[BASE])
        if code:
            return code
    return 0


def _annotate_responses(author: Author, model: Path, out: Path, problems: Path, seed: int) -> int:
    responses = SampleConfig(
        model=str(model),
        author=author,
        problems=problems,
        out=out / f"{author}_responses",
        thinking_tokens=THINKING_TOKENS,
        answer_tokens=ANSWER_TOKENS,
        seed=seed,
    )
    annotations = AnnotateConfig(
        responses=responses.out, out=out / f"{author}_annotations", rule=RULE, seed=seed
    )
    return sample(responses) or annotate(annotations)


def train_one(author: Author, out: Path, seed: int, base: Path | None = None) -> int:
    """Train the predictor of one author from its annotations in ``out``; return the exit code.

    ``base`` is the model that it starts from; None: the bundled one.
    """
    return train_predictor(
        TrainPredictorConfig(
            annotations=out / f"{author}_annotations",
            out=out / f"{author}_predictor",
            base=str(base or model_path(BASE)),
            learning_rate=LEARNING_RATE,
            test_share=HELD_OUT,
            seed=seed,
        )
    )


def _evaluate(author: Author, out: Path, seed: int) -> int:
    student, teacher = (str(out / f"{name}_predictor") for name in AUTHORS)
    return evaluate_predictor(
        EvaluatePredictorConfig(
            annotations=out / f"{author}_annotations",
            predictor=(f"{student}+{teacher}", student, teacher, "lexicon", "sentence"),
            out=out / f"{author}_evaluation",
            seed=seed,
        )
    )


def main(argv: list[str] | None = None) -> int:
    """Train both predictors; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tessy.lab.train_predictors", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all outputs")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    options = parser.parse_args(argv)
    started = time.monotonic()
    code = make_predictors(options.out, options.seed)
    print(f"finished in {time.monotonic() - started:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
