"""The jobs of the experiment: synthesis, training, evaluation; each returns a JSON object."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessy.analysis.nll import ClassSpan, nll_by_class
from tessy.config.evaluation import EvaluateConfig, EvaluationSampling
from tessy.config.training import SftConfig
from tessy.core.records import Author, Trajectory
from tessy.data.export.tokens import load_format
from tessy.evaluation.command import evaluate
from tessy.inference.local.engine import LocalEngine
from tessy.lab.bundled import ANSWER_TOKENS, THINKING_TOKENS, teacher_path
from tessy.lab.experiment.arms import ARMS
from tessy.lab.experiment.data import DATE, make_data, ordered, take
from tessy.lab.experiment.design import BATCH, SCORED_ROWS, Design, LabJob, Setting
from tessy.lab.experiment.outcomes import SkippedError, check_status
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.problems import first_ids, first_texts
from tessy.lab.leak import leak
from tessy.lab.marker import style_spans
from tessy.lab.tasks import HARD_FACTORS, is_correct
from tessy.lab.train_models import make_folder
from tessy.lab.train_predictors import train_pair
from tessy.storage import jsonl
from tessy.storage.run_reader import EVALUATIONS, iter_failures, iter_rows, read_config
from tessy.training.command import sft

TEMPERATURE = 0.6
_CARD_PROBLEMS = 100  # of each task, for the card of a new student
_THINKING_TOKENS = THINKING_TOKENS // 2  # responses of an evaluation

STYLE, CAPABILITY, UNKNOWN = "style", "other", "unknown"


@dataclass(frozen=True, slots=True)
class LabContext:
    """Folder and design of the experiment."""

    out: Path
    design: Design


def run_job(context: LabContext, job: LabJob) -> dict[str, Any]:
    """Run a job and return its result; ``skipped`` is the reason if it cannot run."""
    paths = LabPaths(context.out)
    work = paths.work / job.id
    shutil.rmtree(work, ignore_errors=True)
    try:
        return _RUN_BY_KIND[job.kind](context.design, paths, job, work)
    except SkippedError as error:
        return {"skipped": str(error)}
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _student(design: Design, paths: LabPaths, job: LabJob, work: Path) -> dict[str, Any]:
    card = make_folder("student", work, job.student, design.student_steps, _CARD_PROBLEMS)
    target = paths.student(job.student)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(work / "student", target)
    return {"loss": card.loss}


def _predictors(design: Design, paths: LabPaths, job: LabJob, work: Path) -> dict[str, Any]:
    models: dict[Author, Path] = {"student": paths.student(job.student), "teacher": teacher_path()}
    target = paths.predictors(job.student)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    code = train_pair(target, job.student, count=design.predictor_problems, models=models)
    check_status(code, "the training of predictors")
    return {}


def _untrained(design: Design, paths: LabPaths, job: LabJob, work: Path) -> dict[str, Any]:
    return _evaluated(design, paths, job, paths.student(job.student), work)


def _data(design: Design, paths: LabPaths, job: LabJob, work: Path) -> dict[str, Any]:
    make_data(design, paths, job, work / "sources")
    return _described(paths, job)


def _described(paths: LabPaths, job: LabJob) -> dict[str, Any]:
    """Return counts, leak and likelihood of training data, and a sample."""
    run = paths.data(job.student, job.name)
    rows = ordered(run)
    failures = Counter(failure.reason for failure in iter_failures(run))
    correct = [is_correct(row.answer, row.problem["reference"]) for row in rows]
    scored = asyncio.run(_likelihood(rows[:SCORED_ROWS], run, paths.student(job.student)))
    return {
        "rows": len(rows),
        "failures": dict(failures),
        "correct": correct,
        "leak": asdict(leak(rows)),
        "nll": {name: estimate._asdict() for name, estimate in scored.items()},
        "sample": rows[0].model_dump(mode="json", exclude={"student_ids"}) if rows else None,
    }


async def _likelihood(rows: Sequence[Trajectory], run: Path, student: Path) -> dict[str, Any]:
    form, _ = load_format(read_config(run), str(student))
    engine = LocalEngine.load(student)
    try:
        return dict(await nll_by_class(rows, engine, form, classes))
    finally:
        await engine.aclose()


def classes(row: Trajectory) -> list[ClassSpan]:
    """Return the style by the rule of the lab, and the results of untaught products."""
    spans = [ClassSpan(start, end, STYLE) for start, end in style_spans(row.thinking)]
    for factor in sorted(HARD_FACTORS):
        mark = f" * {factor} = "
        at = row.thinking.find(mark)
        while at >= 0:
            end = at + len(mark)
            spans.append(ClassSpan(end, end + 1, UNKNOWN))
            at = row.thinking.find(mark, end)
    return sorted(spans)


def _train(design: Design, paths: LabPaths, job: LabJob, work: Path) -> dict[str, Any]:
    arm, setting = ARMS[job.name], job.setting
    assert setting is not None
    if arm.on_policy:
        return _train_on_policy(design, paths, job, setting, work)
    work.mkdir(parents=True)
    problems = first_ids(paths.problems, setting.rows)
    rows = take(paths.data(job.student, arm.data), work / "rows", problems, setting.rows)
    if not rows:
        raise SkippedError("no sample could be finished")
    model = work / "model"
    sft(sft_options(job, setting, work / "rows", model, paths.student(job.student)))
    loss = json.loads((model / "loss.json").read_bytes())
    learned = json.loads((model / "sft.json").read_bytes())["data"]["learned"]
    return {
        "distinct_rows": rows,
        "steps": len(loss["steps"]),
        "learned_tokens": learned,
        "losses": [epoch["loss"] for epoch in loss["epochs"]],
        **_evaluated(design, paths, job, model, work),
        **_epochs(design, paths, job, model, work),
    }


def _train_on_policy(
    design: Design, paths: LabPaths, job: LabJob, setting: Setting, work: Path
) -> dict[str, Any]:
    # Importing TRL takes seconds.
    from tessy.lab.experiment.on_policy import OnPolicyOptions, train_on_policy

    model = work / "model"
    options = OnPolicyOptions(
        epochs=setting.epochs,
        batch=BATCH,
        learning_rate=setting.lr,
        temperature=TEMPERATURE,
        most_tokens=_THINKING_TOKENS,
        seed=job.seed,
    )
    problems = first_texts(paths.problems, setting.rows)
    student = paths.student(job.student)
    result = train_on_policy(student, teacher_path(), problems, model, options)
    return {
        "distinct_rows": setting.rows,
        **result,
        **_evaluated(design, paths, job, model, work),
    }


def sft_options(job: LabJob, setting: Setting, rows: Path, model: Path, student: Path) -> SftConfig:
    """Return the options of the job's `tessy sft`."""
    arm = ARMS[job.name]
    return SftConfig(
        data=rows,
        out=model,
        model=str(student),
        loss=arm.loss,
        lora_rank=arm.lora_rank,
        epochs=setting.epochs,
        batch=BATCH,
        device_batch=BATCH,
        learning_rate=setting.lr,
        packing=False,
        gradient_checkpointing=False,
        seed=job.seed,
    )


def _evaluate_options(paths: LabPaths, job: LabJob, model: Path, out: Path) -> EvaluateConfig:
    return EvaluateConfig(
        benchmark=str(paths.questions),
        judge="numbers",
        model=str(model),
        out=out,
        thinking_tokens=_THINKING_TOKENS,
        answer_tokens=ANSWER_TOKENS,
        sampling=EvaluationSampling(temperature=TEMPERATURE, top_p=1.0, top_k=0),
        seed=job.seed,
        date=DATE,
    )


def _evaluated(
    design: Design, paths: LabPaths, job: LabJob, model: Path, work: Path
) -> dict[str, Any]:
    """Return which questions are answered correctly, by task."""
    kept = job.seed == design.seeds[0] and job.setting in (None, design.first_setting)
    out = paths.evaluations / job.id if kept else work / "evaluation"
    shutil.rmtree(out, ignore_errors=True)
    _generate(_evaluate_options(paths, job, model, out))
    rows = sorted(iter_rows(out, EVALUATIONS), key=lambda row: row.key)
    correct: dict[str, list[bool]] = {}
    for row in rows:
        correct.setdefault(row.problem["task"], []).append(row.outcome == "correct")
    return {"correct": correct}


def _generate(options: EvaluateConfig) -> None:
    check_status(evaluate(options), f"the evaluation in {options.out}")


def _epochs(
    design: Design, paths: LabPaths, job: LabJob, model: Path, work: Path
) -> dict[str, Any]:
    """Return the score of the model of each epoch; empty if the job does not include it."""
    if not job.by_epoch:
        return {}
    options = _evaluate_options(paths, job, model, work / "epochs")
    _generate(options.model_copy(update={"checkpoints": True, "limit": design.epoch_questions}))
    scores = jsonl.loads((work / "epochs" / "scores.json").read_bytes())
    assert isinstance(scores, dict)
    return {"by_epoch": scores["checkpoints"]}


_RUN_BY_KIND = {
    "student": _student,
    "predictors": _predictors,
    "untrained": _untrained,
    "data": _data,
    "train": _train,
}
