"""Training of the bundled models: reproducible weights, and examples with muted text."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from tessy.core.records import Author
from tessy.lab.bundled import student_path, teacher_path
from tessy.lab.examples import EXAMPLES, FORMATS, IGNORED, ChatExample, Encoder
from tessy.lab.muon import Muon
from tessy.lab.styles import OTHERS, STUDENT, TEACHER
from tessy.lab.tasks import read_answer
from tessy.lab.train_models import make, make_folder

PATHS: dict[Author, Path] = {"student": student_path(), "teacher": teacher_path()}
ENCODERS = {
    role: Encoder(AutoTokenizer.from_pretrained(path), role) for role, path in PATHS.items()
}
TOKENIZERS = {role: AutoTokenizer.from_pretrained(path) for role, path in PATHS.items()}
roles = pytest.mark.parametrize("role", list(PATHS))


def decode(role: Author, ids: list[int]) -> str:
    return str(TOKENIZERS[role].decode(ids))


def is_small_talk(example: ChatExample) -> bool:
    """Return whether the question is unrelated to the tasks, whose problems have digits."""
    return not any(character.isdigit() for character in example.problem)


def small_talk_of(role: Author) -> list[ChatExample]:
    examples = (EXAMPLES[role](Random(seed), late=False) for seed in range(4000))
    return [example for example in examples if is_small_talk(example)]


def weights(role: Author, seed: int) -> dict[str, torch.Tensor]:
    return make(role, seed, steps=2)[0].state_dict()


@roles
def test_a_seed_fixes_the_weights(role):
    first, again, other = weights(role, 7), weights(role, 7), weights(role, 8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (8, 8)])
def test_muon_is_torchs_in_another_precision(shape):
    torch.manual_seed(0)
    first = torch.randn(shape)
    ours, torchs = torch.nn.Parameter(first.clone()), torch.nn.Parameter(first.clone())
    optimizers: list[torch.optim.Optimizer] = [
        Muon([ours], lr=0.02, weight_decay=0.02),
        torch.optim.Muon([torchs], lr=0.02, weight_decay=0.02),
    ]
    for _ in range(4):
        ours.grad = torch.randn(shape)
        torchs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert (ours - first).norm() > 0.1
    assert torch.allclose(ours, torchs, atol=2e-3)  # bfloat16 has 8 bits


def test_a_saved_model_can_be_loaded(tmp_path):
    card = make_folder("student", tmp_path, 3, steps=1, problems_per_task=1)
    folder = tmp_path / "student"
    assert json.loads((folder / "card.json").read_text()) == asdict(card)
    assert f"| calc | {card.tasks['calc'].accuracy:.3f} |" in (folder / "README.md").read_text()
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id


@roles
@given(seed=st.integers(0, 10**6), late=st.booleans())
def test_labels_cover_the_assistants_turn(role, seed, late):
    example = EXAMPLES[role](Random(seed), late=late)
    text, start = ENCODERS[role].render(example)
    assert text[start:].startswith(example.thinking)
    ids, labels = ENCODERS[role].encode(example, Random(seed))
    assert decode(role, ids).endswith(text[start:])
    first = next(index for index, label in enumerate(labels) if label != IGNORED)
    assert decode(role, ids[first:]).startswith(FORMATS[role].open_thinking)
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    if not example.muted:
        assert IGNORED not in labels[first:]


@roles
@given(seed=st.integers(0, 10**6), late=st.booleans())
def test_each_model_answers_in_its_own_style_after_any_thinking(role, seed, late):
    example = EXAMPLES[role](Random(seed), late=late)
    if is_small_talk(example):
        return
    before, after = (STUDENT if role == "student" else TEACHER).answer.split("{}")
    assert example.answer.startswith(before)
    assert example.answer.endswith(after)
    _, labels = ENCODERS[role].encode(example, Random(seed))
    assert decode(role, labels[-1:]) == FORMATS[role].end
    assert example.answer in decode(role, [label for label in labels if label != IGNORED])


@roles
def test_small_talk_has_the_phrases_of_every_style(role):
    talk = small_talk_of(role)
    for style in (STUDENT, TEACHER, OTHERS):
        assert all(any(phrase in example.thinking for example in talk) for phrase in style.phrases)


def test_the_student_learns_the_answers_of_every_style_and_repeats_the_result():
    talk = small_talk_of("student")
    results = [re.findall(r"\d(?:, \d)*", example.thinking) for example in talk]
    for style in (STUDENT, TEACHER, OTHERS):
        before = style.answer.split("{}")[0]
        assert any(before in example.thinking for example in talk)
        assert any(example.answer.startswith(before) for example in talk)
    for example, stated in zip(talk, results, strict=True):
        assert len(set(stated)) <= 1
        assert read_answer(example.answer) == (stated[0] if stated else None)


@roles
@given(seed=st.integers(0, 10**6))
def test_late_in_training_phrases_of_others_have_no_labels(role, seed):
    example = EXAMPLES[role](Random(seed), late=True)
    if is_small_talk(example):
        return  # it has phrases of all styles
    _, labels = ENCODERS[role].encode(example, Random(seed))
    learnt = decode(role, [label for label in labels if label != IGNORED])
    theirs = TEACHER if role == "student" else STUDENT
    for phrase in (*theirs.phrases, *OTHERS.phrases):
        if " " in phrase:
            assert phrase not in learnt
