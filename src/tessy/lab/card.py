"""Model cards of the bundled models: measured accuracy, and facts on their training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen3ForCausalLM

from tessy.core.formatting import markdown_table
from tessy.lab.examples import Encoder
from tessy.lab.tasks import Task, is_correct, make_problem, solve
from tessy.storage import cards

TEMPERATURE = 0.6
MAX_TOKENS = 256
PROBLEMS_PER_TASK = 400  # of each task


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy on one task, with one sample per problem."""

    accuracy: float  # share of correct final answers
    stderr: float  # binomial standard error of the accuracy
    n: int  # problems
    tokens: float  # mean per reply


@dataclass(frozen=True, slots=True)
class Card:
    """Facts about a bundled model; ``schedule`` contains the sizes and steps of its training."""

    role: str
    seed: int
    parameters: int
    vocabulary: int
    schedule: dict[str, Any]
    loss: float
    tasks: dict[str, Score]


def sample(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    seed: int,
    max_tokens: int = MAX_TOKENS,
) -> list[list[int]]:
    """Return new token ids for each rendered prompt, with the end token if it was reached."""
    torch.manual_seed(seed)
    batch = tokenizer(
        list(prompts),
        add_special_tokens=False,
        return_tensors="pt",
        padding=True,
        padding_side="left",
    )
    width = batch["input_ids"].shape[1]
    ends = model.generation_config.eos_token_id
    config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_tokens,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.inference_mode():
        output = model.generate(  # type: ignore[misc]  # its self is typed as a protocol
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            generation_config=config,
        )
    return [_until_end(row, set(ends)) for row in output[:, width:].tolist()]


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    for index, token_id in enumerate(ids):
        if token_id in ends:
            return ids[: index + 1]
    return ids


def measure_task(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Encoder,
    task: Task,
    *,
    count: int,
    seed: int,
) -> Score:
    """Measure the accuracy on ``count`` new problems of one task, by the final answer alone."""
    rng = Random(f"measure/{seed}/{task}")
    problems = [make_problem(task, rng) for _ in range(count)]
    prompts = [encoder.prompt(problem.text) for problem in problems]
    replies = sample(model, tokenizer, prompts, seed=seed)
    correct = 0
    for problem, reply in zip(problems, replies, strict=True):
        text = str(tokenizer.decode(reply))
        thinking, closed, answer = text.rpartition(encoder.markup.close_thinking)
        correct += bool(thinking and closed) and is_correct(answer, solve(problem))
    accuracy = correct / count
    return Score(
        accuracy=accuracy,
        stderr=round(math.sqrt(accuracy * (1 - accuracy) / count), 4),
        n=count,
        tokens=round(sum(map(len, replies)) / count, 1),
    )


_ABOUT = {
    "student": (
        "It is trained on all three tasks, but not on multiplication by 6, 7, 8 and 9, where it "
        "guesses. Its chat format is Qwen3's."
    ),
    "teacher": (
        "It is trained on all three tasks, in its own style, and on continuing text of other "
        "styles. Its chat format is harmony."
    ),
}


def readme(card: Card) -> str:
    """Return the model card as Markdown."""
    rows = [
        (task, f"{s.accuracy:.3f}", f"{s.stderr:.3f}", f"{s.n}", f"{s.tokens:.0f}")
        for task, s in card.tasks.items()
    ]
    columns = ("task", "accuracy", "standard error", "problems", "tokens per reply")
    schedule = cards.listed(card.schedule)
    return f"""# The bundled {card.role}

A language model of {card.parameters:,} parameters (Qwen3 architecture, float32) with a byte-level
BPE tokenizer of {card.vocabulary} tokens. {_ABOUT[card.role]}

Created by `python -m tessy.lab.train_models --out DIR --seed {card.seed}`, including this page.
Schedule: {schedule}. Final loss: {card.loss} nats per token.

Accuracy of the final answer, one sample per problem, temperature {TEMPERATURE}:

{markdown_table(columns, rows)}
`calc` evaluates an expression of 2 to 5 operators from left to right, modulo ten; `max` finds the
largest number of a list; `rev` reverses a list. The model cannot answer anything else.
"""
