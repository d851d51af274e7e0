"""``tessy demo``: the method on this machine, with two tiny bundled models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from tessy.config.base import RoleConfig
from tessy.config.synthesis import DemoConfig, SynthesizeConfig, TeacherConfig
from tessy.core.records import Author
from tessy.lab.bundled import (
    ANSWER_TOKENS,
    THINKING_TOKENS,
    demo_problems,
    model_path,
    predictor_path,
)
from tessy.lab.leak import BY_RULE, leak, sentence
from tessy.reports.viewer.page import write_report
from tessy.runtime.terminal import print_sample
from tessy.storage import jsonl
from tessy.storage.problems import LoadedProblems
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_trajectories
from tessy.synthesis.run import run_samples


def demo(config: DemoConfig, console: Console | None = None) -> int:
    """Generate samples, print one and the leak, and write the report; return the exit code."""
    console = console or Console()
    loaded = LoadedProblems(tuple(demo_problems(config.count, config.seed)), ())
    synthesis = SynthesizeConfig(
        problems=(Path("bundled"),),
        out=config.out,
        student=RoleConfig(**_role("student", config.predictor)),
        teacher=TeacherConfig(**_role("teacher", config.predictor)),
        thinking_tokens=THINKING_TOKENS,
        answer_tokens=ANSWER_TOKENS,
        seed=config.seed,
        fresh=config.fresh,
    )
    code = run_samples(synthesis, loaded).exit_code
    # The sample with the most spans.
    sample = max(iter_trajectories(config.out), key=lambda row: len(row.spans), default=None)
    if sample is not None:
        print_sample(console, sample)
        measured = leak(iter_trajectories(config.out))
        path = RunPaths(config.out).summary
        summary = json.loads(path.read_bytes())
        summary["leak"] = {**asdict(measured), "judged": BY_RULE}
        jsonl.write_json(path, summary)
        console.print(f"\n{sentence(measured)}", soft_wrap=True, highlight=False)
    report = write_report(config.out)
    console.print(f"\nReport of all samples: {report}", soft_wrap=True)
    return code


def _role(author: Author, predictor: str) -> dict[str, Any]:
    if predictor == "bundled":
        predictor = str(predictor_path(author))
    return {"model": str(model_path(author)), "predictor": predictor}
