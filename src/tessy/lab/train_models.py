"""Train the bundled student and teacher from a seed: ``python -m tessy.lab.train_models``.

Both are trained in parallel, each in its own process with one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tessy.core.records import Author
from tessy.lab.card import PROBLEMS_PER_TASK, Card, measure_task, readme
from tessy.lab.examples import EXAMPLES, IGNORED, Encoder
from tessy.lab.make_tokenizers import (
    CONTEXT_TOKENS,
    STUDENT_TOKENIZER,
    TEACHER_TOKENIZER,
    Recipe,
    make_tokenizer,
)
from tessy.lab.muon import Muon
from tessy.lab.tasks import TASKS
from tessy.storage.cards import write_card

_WARM_UP_STEPS = 40
_HEAD_DIM = 32


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Size and schedule of one model."""

    tokenizer: Recipe
    hidden: int  # width; a multiple of 32
    layers: int
    intermediate: int  # width of the MLP
    steps: int
    batch: int  # examples per step
    lr: float  # peak learning rate of embeddings and norms
    matrix_lr: float  # peak learning rate of the matrices
    late: float  # share of the steps, at the end, that are the late phase


PLANS: dict[Author, TrainingPlan] = {
    "student": TrainingPlan(STUDENT_TOKENIZER, 96, 2, 256, 4000, 16, 4e-3, 0.02, 0.0),
    "teacher": TrainingPlan(TEACHER_TOKENIZER, 128, 2, 352, 1600, 16, 4e-3, 0.02, 0.15),
}


def make_model(plan: TrainingPlan, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Return an untrained model of the plan's size, with the tokenizer's end tokens."""
    config = Qwen3Config(
        vocab_size=plan.tokenizer.size,
        hidden_size=plan.hidden,
        intermediate_size=plan.intermediate,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.hidden // _HEAD_DIM,
        num_key_value_heads=1,
        head_dim=_HEAD_DIM,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]  # transformers
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    if "<|call|>" in plan.tokenizer.control:
        ends.append(tokenizer.convert_tokens_to_ids("<|call|>"))
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers
        eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    return model


def train(
    plan: TrainingPlan, role: Author, seed: int, model: Qwen3ForCausalLM, encoder: Encoder
) -> float:
    """Train in place; return the mean loss (nats per token) of the last tenth of the steps."""
    rng = Random(f"{seed}/{role}")
    optimizers = _optimizers(model, plan)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, plan.steps))
        for optimizer in optimizers
    ]
    pad = int(model.config.pad_token_id or 0)
    losses = []
    started = time.monotonic()
    model.train()
    for step in range(plan.steps):
        late = step >= plan.steps * (1 - plan.late)
        coded = [encoder.encode(EXAMPLES[role](rng, late=late), rng) for _ in range(plan.batch)]
        model.zero_grad()
        losses.append(_backward(model, coded, pad))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        if step % 100 == 99:
            recent = sum(losses[-100:]) / 100
            seconds = time.monotonic() - started
            print(f"{role} step {step + 1} loss {recent:.3f} {seconds:.0f} s", flush=True)
    tail = losses[-max(1, plan.steps // 10) :]
    return sum(tail) / len(tail)


def _optimizers(model: Qwen3ForCausalLM, plan: TrainingPlan) -> list[torch.optim.Optimizer]:
    """Return Muon for matrices and AdamW for the rest: AdamW alone needs far more examples."""
    matrices: list[torch.nn.Parameter] = []
    remaining: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name
        (matrices if is_matrix else remaining).append(parameter)
    return [
        Muon(matrices, lr=plan.matrix_lr, weight_decay=0.02),
        torch.optim.AdamW(remaining, lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _backward(model: Qwen3ForCausalLM, coded: list[tuple[list[int], list[int]]], pad: int) -> float:
    """Add the gradient of the batch's mean loss; short and long rows are padded apart."""
    coded = sorted(coded, key=lambda pair: len(pair[0]))
    count = sum(label != IGNORED for _, labels in coded for label in labels)
    total = 0.0
    for part in (coded[: len(coded) // 2], coded[len(coded) // 2 :]):
        ids = pad_sequence([torch.tensor(ids) for ids, _ in part], True, pad)
        labels = pad_sequence([torch.tensor(labels) for _, labels in part], True, IGNORED)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        has_loss = targets != IGNORED  # logits of other positions are not needed
        loss = torch.nn.functional.cross_entropy(
            model.lm_head(hidden[has_loss]), targets[has_loss], reduction="sum"
        )
        (loss / count).backward()  # type: ignore[no-untyped-call]  # torch
        total += loss.item()
    return total / count


def _rate(step: int, steps: int) -> float:
    if step < _WARM_UP_STEPS:
        return (step + 1) / _WARM_UP_STEPS
    done = (step - _WARM_UP_STEPS) / max(1, steps - _WARM_UP_STEPS)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def make(
    role: Author, seed: int, *, steps: int | None = None
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast, float]:
    """Train one model; return it with its tokenizer and the loss, see :func:`train`.

    The same seed gives the same weights on the same machine. ``steps`` replaces the plan's.
    """
    torch.set_num_threads(1)  # one thread sums in one order: the same weights in every run
    torch.manual_seed(seed)
    plan = PLANS[role]
    if steps is not None:
        plan = replace(plan, steps=steps)
    tokenizer = make_tokenizer(plan.tokenizer)
    model = make_model(plan, tokenizer)
    loss = train(plan, role, seed, model, Encoder(tokenizer, role))
    model.eval()  # type: ignore[no-untyped-call]  # torch
    return model, tokenizer, loss


def make_folder(
    role: Author,
    out: Path,
    seed: int,
    steps: int | None = None,
    problems_per_task: int = PROBLEMS_PER_TASK,
) -> Card:
    """Train, measure and save one model with its tokenizer and card in the folder ``out/role``.

    Accuracy is measured on ``problems_per_task`` problems of each task.
    """
    model, tokenizer, loss = make(role, seed, steps=steps)
    folder = out / role
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    encoder = Encoder(tokenizer, role)
    schedule = asdict(PLANS[role]) | ({} if steps is None else {"steps": steps})
    del schedule["tokenizer"]
    card = Card(
        role=role,
        seed=seed,
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
        schedule=schedule,
        loss=round(loss, 4),
        tasks={
            task: measure_task(model, tokenizer, encoder, task, count=problems_per_task, seed=seed)
            for task in TASKS
        },
    )
    write_card(folder, "card.json", asdict(card), readme(card))
    return card


def main(argv: list[str] | None = None) -> int:
    """Train both models; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tessy.lab.train_models", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for student/ and teacher/")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--steps", type=int, help="optimizer steps, instead of the plan's")
    parser.add_argument("--role", choices=list(PLANS), help="train only this model")
    options = parser.parse_args(argv)
    roles: list[Author] = [options.role] if options.role else list(PLANS)
    jobs = [(role, options.out, options.seed, options.steps) for role in roles]
    started = time.monotonic()
    # A forked process inherits locks of PyTorch's threads and may hang.
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as workers:
        for card in workers.starmap(make_folder, jobs):
            accuracy = {task: score.accuracy for task, score in card.tasks.items()}
            print(json.dumps({"role": card.role, "tasks": accuracy}), flush=True)
    print(f"finished in {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
