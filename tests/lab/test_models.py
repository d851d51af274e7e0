"""The bundled models: small, different from each other, and as accurate as on their cards."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from tessy.core.records import Author
from tessy.lab.bundled import student_path, teacher_path
from tessy.lab.card import Score, measure_task, sample
from tessy.lab.examples import FORMATS, Encoder
from tessy.lab.styles import STUDENT, TEACHER
from tessy.lab.tasks import TASKS

PROBLEM_COUNT = 60
PATHS: dict[Author, Path] = {"student": student_path(), "teacher": teacher_path()}
roles = pytest.mark.parametrize("role", list(PATHS))

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 1 + 2?"},
    {"role": "assistant", "content": "So the answer is 3."},
    {"role": "user", "content": "And 2 + 2?"},
]


@cache
def tokenizer_of(role: Author):
    return AutoTokenizer.from_pretrained(PATHS[role])


@cache
def model_of(role: Author):
    return AutoModelForCausalLM.from_pretrained(PATHS[role])


def scores_on_card(role: Author) -> dict[str, Score]:
    card = json.loads((PATHS[role] / "card.json").read_text())
    return {task: Score(**score) for task, score in card["tasks"].items()}


def ids_of(role: Author, text: str) -> list[int]:
    return list(tokenizer_of(role).encode(text, add_special_tokens=False))


@roles
@pytest.mark.parametrize("task", TASKS)
def test_accuracy_agrees_with_the_card(role, task):
    torch.set_num_threads(1)
    expected = scores_on_card(role)[task]
    tokenizer = tokenizer_of(role)
    measured = measure_task(
        model_of(role), tokenizer, Encoder(tokenizer, role), task, count=PROBLEM_COUNT, seed=12345
    )
    # An accuracy of 1.000 on the card is an estimate too, so its variance is not 0.
    variance = max(expected.accuracy * (1 - expected.accuracy), 0.01)
    stderr = (variance / PROBLEM_COUNT + variance / expected.n) ** 0.5
    assert abs(measured.accuracy - expected.accuracy) <= 4 * stderr


def test_the_student_is_worse_than_the_teacher_at_calc_only():
    student, teacher = scores_on_card("student"), scores_on_card("teacher")
    assert 0.55 <= student["calc"].accuracy <= 0.8
    assert teacher["calc"].accuracy >= 0.95
    assert min(student[task].accuracy for task in ("max", "rev")) >= 0.95
    assert min(teacher[task].accuracy for task in ("max", "rev")) >= 0.95


def test_the_bundled_models_are_small():
    sizes = [file.stat().st_size for path in PATHS.values() for file in path.rglob("*")]
    assert 1_000_000 < sum(sizes) < 4_000_000


@roles
@given(text=st.text())
def test_any_text_round_trips(role, text):
    markup = tokenizer_of(role).get_added_vocab()
    if any(token in text for token in markup):
        return
    assert tokenizer_of(role).decode(ids_of(role, text)) == text


@roles
@given(number=st.integers(0, 10**9))
def test_digits_are_single_tokens(role, number):
    assert len(ids_of(role, str(number))) == len(str(number))


def test_the_tokenizers_differ():
    text = "We need to compute this: 5 - 3 = 2.\nHence 2 * 2 = 4. Okay, that's it.\n\n/x 12"
    pieces = {}
    for role in PATHS:
        tokenizer = tokenizer_of(role)
        assert tokenizer.is_fast
        pieces[role] = [tokenizer.decode([token_id]) for token_id in ids_of(role, text)]
        assert "".join(pieces[role]) == text
    assert pieces["student"] != pieces["teacher"]
    assert "'s" in pieces["student"]  # Qwen2 splits contractions off,
    assert " that's" in pieces["teacher"]  # o200k keeps them


@roles
def test_control_tokens_have_one_id(role):
    markup = tokenizer_of(role).get_added_vocab()
    expected = {
        "student": {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"},
        "teacher": {
            "<|startoftext|>",
            "<|endoftext|>",
            "<|return|>",
            "<|constrain|>",
            "<|channel|>",
            "<|start|>",
            "<|end|>",
            "<|message|>",
            "<|call|>",
        },
    }
    assert set(markup) == expected[role]
    for token, token_id in markup.items():
        assert ids_of(role, token) == [token_id]


def test_the_student_has_qwen3s_template():
    tokenizer = tokenizer_of("student")
    head = (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWhat is 1 + 2?<|im_end|>\n"
        "<|im_start|>assistant\nSo the answer is 3.<|im_end|>\n"
        "<|im_start|>user\nAnd 2 + 2?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    prompt = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert prompt == head
    prompt = tokenizer.apply_chat_template(
        TALK, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert prompt == head + "<think>\n\n</think>\n\n"
    reply = {"role": "assistant", "content": "<think>\n2 + 2 = 4.\n</think>\n\nIt is 4."}
    whole = tokenizer.apply_chat_template([*TALK, reply], tokenize=False)
    assert whole == head + "<think>\n2 + 2 = 4.\n</think>\n\nIt is 4.<|im_end|>\n"
    again = tokenizer.apply_chat_template(
        [*TALK, reply, {"role": "user", "content": "Sure?"}], tokenize=False
    )
    assert again == head + "It is 4.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n"


def test_the_teacher_has_harmonys_template():
    tokenizer = tokenizer_of("teacher")
    tail = (
        "# Valid channels: analysis, commentary, final. Channel must be included for every "
        "message.<|end|>"
        "<|start|>developer<|message|># Instructions\n\nBe brief.<|end|>"
        "<|start|>user<|message|>What is 1 + 2?<|end|>"
        "<|start|>assistant<|channel|>final<|message|>So the answer is 3.<|end|>"
        "<|start|>user<|message|>And 2 + 2?<|end|>"
    )
    prompt = tokenizer.apply_chat_template(
        TALK, tokenize=False, add_generation_prompt=True, reasoning_effort="high"
    )
    assert prompt.startswith("<|start|>system<|message|>")
    assert prompt.endswith(f"Reasoning: high\n\n{tail}<|start|>assistant")
    reply = {"role": "assistant", "thinking": "2 + 2 = 4.", "content": "It is 4."}
    whole = tokenizer.apply_chat_template([*TALK, reply], tokenize=False)
    assert whole.endswith(
        f"Reasoning: medium\n\n{tail}<|start|>assistant<|channel|>analysis<|message|>2 + 2 = 4."
        "<|end|><|start|>assistant<|channel|>final<|message|>It is 4.<|return|>"
    )


@roles
def test_each_model_continues_text_of_the_other(role):
    """The step after a phrase of the other model is correct."""
    tokenizer = tokenizer_of(role)
    encoder = Encoder(tokenizer, role)
    theirs = TEACHER if role == "student" else STUDENT
    openers = theirs.openers
    questions = [("4 + 5 * 3", "4 + 5 = 9", "9 * 3 = 7"), ("8 - 3 + 6", "8 - 3 = 5", "5 + 6 = 1")]
    prompts, wanted = [], []
    for expression, first, second in questions:
        prompt = encoder.prompt(f"Compute {expression} from left to right, modulo ten.")
        for index, lead in enumerate(theirs.leads):
            thinking = f"{openers[index % len(openers)]} {first}. {lead}"
            prompts.append(prompt + FORMATS[role].open_thinking + thinking)
            wanted.append(f" {second}.")
    replies = sample(model_of(role), tokenizer, prompts, seed=0, max_tokens=12)
    texts = [tokenizer.decode(reply) for reply in replies]
    right = sum(text.startswith(want) for text, want in zip(texts, wanted, strict=True))
    assert right >= 0.8 * len(wanted), texts
