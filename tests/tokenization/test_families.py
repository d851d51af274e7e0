from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tessy.core.records import Message
from tessy.tokenization.families import load_renderer
from tessy.tokenization.renderer import Renderer
from tessy.tokenization.token_ids import decode
from tests.families.patterns import FAMILIES, THINKING

# Expected values, from the documentation of the formats: the end of the prompt after the rendered
# text, the end of the thinking, and the tokens that end thinking and answer.
SUFFIX = dict.fromkeys(THINKING, "<think>\n") | {
    "qwen3_thinking": "",
    "deepseek_r1": "",
    "r1_distill_llama": "",
    "harmony": "<|channel|>analysis<|message|>",
}
CLOSING = dict.fromkeys(THINKING, "\n</think>\n\n") | {
    "harmony": "<|end|><|start|>assistant<|channel|>final<|message|>"
}
THINKING_STOPS = {name: {"</think>"} for name in THINKING} | {
    "harmony": {"<|end|>", "<|return|>", "<|call|>", "<|channel|>"}
}
ANSWER_STOPS = {
    "qwen3": {"<|im_end|>", "<|endoftext|>"},
    "qwen3_thinking": {"<|im_end|>", "<|endoftext|>"},
    "deepseek_r1": {"<｜end▁of▁sentence｜>"},
    "r1_distill_llama": {"<｜end▁of▁sentence｜>"},
    "harmony": {"<|return|>", "<|end|>", "<|endoftext|>"},
    "chatml_think": {"<|im_end|>", "<|endoftext|>"},
    "metaspace": {"</s>"},
}
each_family = pytest.mark.parametrize("name", THINKING)


@cache
def renderer(name: str) -> Renderer:
    return load_renderer(FAMILIES / name)


@cache
def tokenizer(name: str) -> Any:  # transformers types its methods by union of all they may return
    # Straight from tokenizer.json: AutoTokenizer gets r1_distill_llama wrong.
    return PreTrainedTokenizerFast.from_pretrained(FAMILIES / name)


WORDS = [
    "the", " answer", "\n", "\n\n", "  ", " ", "42", ".", "don't", "汉字", "e\u0301", "▁",
    "{{ x }}", "<b>", "Ünder", "\U000f0000",
    "👩\u200d👩\u200d👧",
]  # fmt: skip
MARKUP = [
    "<|im_end|>", "<|im_start|>", "</think>", "<think>", "<|end|>", "<|channel|>", "<|start|>",
    "<s>", "</s>", "<｜User｜>", "<｜end▁of▁sentence｜>",
]  # fmt: skip
# Hypothesis also draws strings of the code under test, which contains markup.
TEXTS = (st.text(max_size=20) | st.lists(st.sampled_from(WORDS), max_size=8).map("".join)).filter(
    lambda text: not re.search(r"<[^<>]*[>|]", text.replace("<b>", ""))
)
ASCII_WORDS = ["the", " answer", "\n", " ", "42", ".", "don't", "<", "|>"]
MARKED = st.lists(st.sampled_from(MARKUP + ASCII_WORDS), min_size=1, max_size=8).map("".join)
PLAIN_ANSWERS = st.lists(st.sampled_from(ASCII_WORDS), max_size=4).map("".join)


@st.composite
def conversations(draw, contents=TEXTS, answers=TEXTS, system=True):
    """Draw an optional system message, up to two exchanges, and a user message."""
    messages = []
    if system and draw(st.booleans()):
        messages.append(Message(role="system", content=draw(contents)))
    for _ in range(draw(st.integers(0, 2))):
        messages.append(Message(role="user", content=draw(contents)))
        answer = draw(answers)
        if draw(st.booleans()):
            answer = f"<think>\n{draw(answers)}\n</think>\n\n{answer}"
        messages.append(Message(role="assistant", content=answer))
    return [*messages, Message(role="user", content=draw(contents))]


def reference_turns(name: str, messages: list[Message]) -> list[dict[str, str]]:
    """Return the messages as expected by the tokenizer's chat template."""
    turns = [message.model_dump() for message in messages]
    if name == "harmony":  # reads thinking from a field
        for turn in turns:
            if turn["role"] == "assistant" and turn["content"].startswith("<think>"):
                thinking, answer = turn["content"].split("</think>", 1)
                turn |= {"content": answer.lstrip("\n"), "thinking": thinking}
    return turns


def rendered(name: str, messages: list[Message]) -> str:
    """Render the messages with the tokenizer alone, up to the opening marker of the thinking."""
    text: str = tokenizer(name).apply_chat_template(
        reference_turns(name, messages),
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
        reasoning_effort="high",
    )
    return text + SUFFIX[name]


@each_family
@given(data=st.data())
def test_prompt_ids_equal_apply_chat_template(name, data):
    messages = data.draw(conversations(system=name != "metaspace"))
    ids = renderer(name).prompt_ids(messages)
    own = tokenizer(name).apply_chat_template(
        reference_turns(name, messages),
        add_generation_prompt=True,
        enable_thinking=True,
        reasoning_effort="high",
        return_dict=False,
    )
    suffix = tokenizer(name)(SUFFIX[name], add_special_tokens=False)["input_ids"]
    if name == "metaspace":  # the suffix follows text, so the two are encoded together
        suffix = suffix[-2:]
    assert ids == own + suffix


@each_family
@given(data=st.data())
def test_markup_in_messages_stays_plain_text(name, data):
    messages = data.draw(conversations(MARKED, PLAIN_ANSWERS, system=name != "metaspace"))
    codec = renderer(name).codec
    ids = renderer(name).prompt_ids(messages)
    expected = rendered(name, messages)
    text = decode(codec, ids)
    if name == "metaspace":  # where ▁ is a space
        text, expected = text.replace("▁", " "), expected.replace("▁", " ")
    assert text == expected
    pattern = re.compile("|".join(map(re.escape, MARKUP)))
    harmless = [
        m
        if m.role == "assistant"
        else m.model_copy(update={"content": pattern.sub("x", m.content)})
        for m in messages
    ]
    assert [i for i in ids if i in codec.control_ids] == [
        i for i in renderer(name).prompt_ids(harmless) if i in codec.control_ids
    ]


@each_family
def test_markup_does_not_change_the_ids_of_other_messages(name):
    """Other messages have the ids of apply_chat_template."""
    system = [
        Message(role="user", content="Be  brief.\n"),
        Message(role="assistant", content="Ok."),
    ]
    marked = [*system, Message(role="user", content="What does </think><|im_end|> mean?")]
    plain = [*system, Message(role="user", content="What does it mean?")]
    marked_ids = renderer(name).prompt_ids(marked)
    plain_ids = renderer(name).prompt_ids(plain)
    common = renderer(name).codec.encode(" does")
    start = next(i for i in range(len(plain_ids)) if plain_ids[i : i + len(common)] == common)
    assert marked_ids[: start + len(common)] == plain_ids[: start + len(common)]


@each_family
@given(data=st.data())
def test_the_prompt_ends_with_the_only_opening_marker_of_thinking(name, data):
    ids = renderer(name).prompt_ids([Message(role="user", content=data.draw(MARKED))])
    control = renderer(name).codec.control
    inverse = {i: mark for mark, i in control.items()}
    marks = [inverse[i] for i in ids if i in inverse]
    if name == "harmony":
        assert marks[-3:] == ["<|start|>", "<|channel|>", "<|message|>"]
        assert marks.count("<|channel|>") == 1
    else:
        assert marks[-1] == "<think>"
        assert marks.count("<think>") == 1
        assert "</think>" not in marks


@each_family
def test_family_and_stop_ids(name):
    control = renderer(name).codec.control
    assert renderer(name).family == THINKING[name]
    assert renderer(name).thinking_stop_ids == {control[s] for s in THINKING_STOPS[name]}
    assert renderer(name).answer_stop_ids == {control[s] for s in ANSWER_STOPS[name]}


@each_family
@given(tail=MARKED | TEXTS)
@example(tail="")
def test_close_ids_are_the_tail_and_the_closing_marker(name, tail):
    ids = renderer(name).close_ids(tail)
    codec = renderer(name).codec
    assert decode(codec, ids) == tail + CLOSING[name]
    marks = [i for i in ids if i in codec.control_ids]
    in_closing = re.findall(r"<[^<>]+>", CLOSING[name])
    assert marks == [codec.control[mark] for mark in in_closing]


@pytest.mark.parametrize("name", [name for name in THINKING if name != "metaspace"])
@given(tail=st.text(alphabet="ab .,'\n1)", max_size=12))
def test_close_ids_merge_white_space_as_the_tokenizer_does(name, tail):
    expected = tokenizer(name)(tail + CLOSING[name], add_special_tokens=False)["input_ids"]
    assert renderer(name).close_ids(tail) == expected


SETTLED = TEXTS.map(str.strip).filter(bool).map(lambda text: unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("name", ["qwen3", "qwen3_thinking", "harmony", "chatml_think"])
@given(thinking=SETTLED, answer=SETTLED)
def test_apply_chat_template_of_a_row_has_the_ids_of_its_parts(name, thinking, answer):
    """Prompt, thinking, closing and answer are a prefix of apply_chat_template on the row."""
    question = Message(role="user", content="Why?")
    row = Message(role="assistant", content=renderer(name).assistant(thinking, answer))
    assert row.content == f"<think>\n{thinking}\n</think>\n\n{answer}"
    own = tokenizer(name).apply_chat_template(
        renderer(name).turns([question, row]), reasoning_effort="high", return_dict=False
    )
    parts = [
        renderer(name).prompt_ids([question]),
        renderer(name).close_ids(thinking),
        renderer(name).codec.encode(answer),
    ]
    ids = [i for part in parts for i in part]
    assert own[: len(ids)] == ids
    assert own[len(ids)] in renderer(name).answer_stop_ids


def test_prompt_text_shows_markup():
    messages = [Message(role="system", content="Be brief."), Message(role="user", content="Why?")]
    assert renderer("qwen3").prompt_text(messages) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    )
    assert (
        renderer("harmony")
        .prompt_text(messages)
        .endswith(
            "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n<|end|>"
            "<|start|>user<|message|>Why?<|end|><|start|>assistant<|channel|>analysis<|message|>"
        )
    )
    assert renderer("deepseek_r1").prompt_text(messages) == (
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Why?<｜Assistant｜><think>\n"
    )


def test_reasoning_effort_reaches_the_template():
    question = [Message(role="user", content="Why?")]
    assert "Reasoning: high" in renderer("harmony").prompt_text(question)
    low = load_renderer(FAMILIES / "harmony", reasoning_effort="low")
    assert "Reasoning: low" in low.prompt_text(question)


def history(name: str, content: str) -> str:
    messages = [
        Message(role="user", content="One?"),
        Message(role="assistant", content=content),
        Message(role="user", content="Two?"),
    ]
    text = renderer(name).prompt_text(messages)
    return text.partition("One?")[2].partition("Two?")[0]


@each_family
def test_the_template_decides_whether_thinking_of_earlier_turns_is_kept(name):
    turn = history(name, "<think>\nPonder.\n</think>\n\nDone.")
    assert "Done." in turn
    # These two templates do not handle thinking.
    assert ("Ponder." in turn) == (name in ("chatml_think", "metaspace"))


@each_family
def test_an_answer_that_contains_the_markers_is_kept_unchanged(name):
    answer = "Write <think> first, then </think> and assistantfinal."
    assert answer in history(name, answer)
    assert answer in history(name, f"<think>\nPonder.\n</think>\n\n{answer}")
