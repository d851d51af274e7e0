"""On-policy distillation, with the bundled models. Nothing here asserts that it helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tessy.data.export.tokens import IGNORED
from tessy.lab import examples
from tessy.lab.bundled import student_path, teacher_path
from tessy.lab.experiment import on_policy
from tessy.lab.experiment.design import LabJob, Trainings
from tessy.lab.experiment.on_policy import (
    OnPolicyOptions,
    ThinkingTrainer,
    keep_thinking,
    train_on_policy,
)
from tessy.lab.experiment.outcomes import SkippedError
from tessy.lab.experiment.problems import draw
from tests.support.lab_runs import SETTING, TINY, do_here, opened

pytestmark = [
    pytest.mark.timeout(600),  # a busy machine takes minutes
    pytest.mark.usefixtures("one_thread"),
]

PROBLEMS = [problem.text for problem in draw("calc", 5, Random(1))]
OPTIONS = OnPolicyOptions(
    epochs=2, batch=4, learning_rate=2e-4, temperature=0.6, most_tokens=300, seed=0
)


class Recorder(ThinkingTrainer):
    """Keeps what each step is trained on."""

    batches: ClassVar[list[tuple[Any, ...]]] = []

    def generate_on_policy_outputs(self, *args: Any):
        batch = super().generate_on_policy_outputs(*args)
        self.batches.append(batch)
        return batch


def train(out: Path, **changes: Any) -> dict[str, Any]:
    options = replace(OPTIONS, **changes)
    return train_on_policy(student_path(), teacher_path(), PROBLEMS, out, options)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory):
    """A training: its folder, its result, and the batches of its steps."""
    out = tmp_path_factory.mktemp("on-policy") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_policy, "ThinkingTrainer", Recorder)
        patch.setattr(Recorder, "batches", [])
        result = train(out)
        yield out, result, list(Recorder.batches)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(str(student_path()))


def test_an_epoch_has_every_problem_and_whole_steps(recorded):
    _, result, batches = recorded
    assert result["steps"] == len(batches) == 2 * 2  # epochs, steps of 4 for 5 problems
    assert len(result["losses"]) == 2
    for epoch in (batches[:2], batches[2:]):
        prompts = [prompt for _, _, _, prompts, _ in epoch for prompt in prompts]
        assert all(len(prompts) == 4 for _, _, _, prompts, _ in epoch)
        assert len(set(prompts)) == len(PROBLEMS)


def test_the_teacher_reads_the_problem_in_its_own_format_and_the_students_thinking(
    recorded, tokenizer
):
    _, _, batches = recorded
    for ids, _, labels, prompts, thoughts in batches:
        for row, marks, prompt, thinking in zip(ids, labels, prompts, thoughts, strict=True):
            assert any(problem in prompt for problem in PROBLEMS)
            assert prompt.startswith("<|start|>system<|message|>")
            assert prompt.endswith("<|start|>assistant<|channel|>analysis<|message|>")
            assert thinking
            assert "<" not in thinking
            assert tokenizer.decode(row[marks != IGNORED]) == thinking
            assert thinking in tokenizer.decode(row)


@pytest.mark.parametrize(
    ("response", "kept"),
    [
        ("So 1 + 2 = 3.\n</think>\n\nSo the answer is 3.<|im_end|>", "So 1 + 2 = 3"),
        ("So 1 + 2 = 3\n</think>\n\n", "So 1 + 2 = 3"),
        ("So 1 + 2 = 3.</think>\n\n", "So 1 + 2 = 3."),
        ("So\n1 + 2 =\n", "So\n1 + 2 =\n"),  # at the limit of tokens
        ("So 1 +<|im_end|>", "So 1 +"),
        ("\n</think>\n\nSo", ""),
    ],
)
def test_the_loss_ends_with_the_thinking(response, kept, tokenizer):
    prompt = tokenizer.encode("Hmm.\n<think>\n", add_special_tokens=False)
    written = tokenizer.encode(response, add_special_tokens=False)
    ids = torch.tensor(prompt + written)
    labels = torch.tensor([IGNORED] * len(prompt) + written)
    assert keep_thinking(ids, labels, tokenizer) == kept
    count = int((labels != IGNORED).sum())
    assert labels.tolist() == [IGNORED] * len(prompt) + written[:count] + [IGNORED] * (
        len(written) - count
    )
    assert tokenizer.decode(written[:count]) == kept


def test_the_same_seed_gives_the_same_model(recorded, tmp_path):
    out, result, _ = recorded

    def weights(folder: Path) -> bytes:
        return (folder / "model.safetensors").read_bytes()

    assert train(tmp_path / "again") == result
    assert weights(tmp_path / "again") == weights(out)
    assert train(tmp_path / "other", seed=1) != result
    assert weights(tmp_path / "other") != weights(out)


def perturbed_student(folder: Path) -> Path:
    """Write a student with other probabilities."""
    model = AutoModelForCausalLM.from_pretrained(str(student_path()), dtype=torch.float32)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(
                torch.randn(weight.shape, generator=noise), alpha=0.05 * float(weight.std())
            )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(student_path())).save_pretrained(folder)
    return folder


def test_the_loss_is_the_reverse_divergence_of_the_thinkings_tokens(
    tmp_path, monkeypatch, tokenizer
):
    monkeypatch.setitem(examples.FORMATS, "teacher", examples.FORMATS["student"])
    monkeypatch.setattr(on_policy, "ThinkingTrainer", Recorder)
    monkeypatch.setattr(Recorder, "batches", [])
    teacher = perturbed_student(tmp_path / "teacher")
    options = replace(OPTIONS, epochs=1, batch=5)
    result = train_on_policy(student_path(), teacher, PROBLEMS, tmp_path / "model", options)
    models = [
        AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32)
        for path in (student_path(), teacher)
    ]
    [(ids, mask, labels, prompts, thoughts)] = Recorder.batches
    expected = []
    for row, kept, marks, prompt, thinking in zip(
        ids, mask, labels, prompts, thoughts, strict=True
    ):
        text = tokenizer.encode(prompt + thinking, add_special_tokens=False)
        assert row[kept.bool()].tolist()[: len(text)] == text  # no token is cut in two
        with torch.no_grad():
            own, other = (one(torch.tensor([text])).logits[0].log_softmax(-1) for one in models)
        divergence = (own.exp() * (own - other)).sum(-1)
        expected.append(float(divergence[-1 - int((marks != IGNORED).sum()) : -1].mean()))
    assert result["losses"] == pytest.approx([sum(expected) / len(expected)], rel=1e-3)


def test_the_arm_needs_no_data_and_answers_the_questions_of_others(tmp_path):
    design = replace(TINY, trainings=(Trainings(("on-policy",), (SETTING,), (0,)),), by_epoch=())
    paths = opened(tmp_path / "out", design)
    untrained, job = LabJob("untrained", 0), LabJob("train", 0, "on-policy", SETTING, 0)
    assert design.jobs() == [untrained, job]
    assert design.needs(job) == [untrained.id]
    result = do_here(paths, job, design)
    assert (result["distinct_rows"], result["steps"]) == (SETTING.rows, 1)
    correct = {task: len(answers) for task, answers in result["correct"].items()}
    assert correct == design.questions


def test_a_step_without_any_thinking_is_a_reason_to_skip_the_training(tmp_path, monkeypatch):
    def end_at_once(ids: torch.Tensor, labels: torch.Tensor, _: object) -> str:
        labels[:] = IGNORED
        return ""

    monkeypatch.setattr(on_policy, "keep_thinking", end_at_once)
    with pytest.raises(SkippedError, match="all responses of a step had an empty thinking"):
        train(tmp_path / "model")
