"""Tokenized rows: the student's tokens and their authors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tessy.core.edges import edges, last_unit, units
from tessy.core.errors import ConfigError, ModelError
from tessy.core.records import Author, Message, Span, StudentIds, TokenCounts, Trajectory, pack_ids
from tessy.data.export.tokens import (
    IGNORED,
    StudentFormat,
    TokenizedSample,
    labels,
    parse_loss,
    tokenize,
)
from tessy.lab.bundled import student_path
from tessy.synthesis.strategies.tessy import tessy
from tessy.tokenization.families import load_renderer, make_renderer
from tessy.tokenization.token_ids import decode
from tests.families.patterns import FAMILIES, THINKING
from tests.synthesis.test_sample import RENDERERS, make_attempt, make_context

FOLDERS = {name: FAMILIES / name for name in THINKING} | {"bundled": student_path()}
# Templates that keep the thinking in training data.
SHOWN = ["qwen3", "qwen3_thinking", "harmony", "chatml_think", "bundled"]
ENDS = {
    "qwen3": "<|im_end|>",
    "qwen3_thinking": "<|im_end|>",
    "deepseek_r1": "<｜end▁of▁sentence｜>",
    "r1_distill_llama": "<｜end▁of▁sentence｜>",
    "harmony": "<|return|>",
    "chatml_think": "<|im_end|>",
    "metaspace": "</s>",
    "bundled": "<|im_end|>",
}
PROBLEM = (Message(role="system", content="Be brief."), Message(role="user", content="2 + 2?"))
each_family = pytest.mark.parametrize("name", FOLDERS)

WORDS = [
    "Okay,", "wait", " 5 - 3", "=", "2.", " ", "\n", "\n\n", "Hence", "汉字共有三种", "e\u0301",
    "</think>", "<|im_end|>", " x+y", "👩\u200d👩\u200d👧", "\t//", "…", ")", "don't", "  ",
]  # fmt: skip
# Without U+FFFD; see test_a_replacement_character_in_the_text_is_kept.
TEXTS = (
    (st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=14).map("".join))
    .map(lambda text: text.replace("\ufffd", "").strip())
    .filter(bool)
)


@cache
def form(name: str) -> StudentFormat:
    return StudentFormat(load_renderer(FOLDERS[name]))


def make_row(
    name: str,
    spans: Sequence[Span],
    thinking: str,
    answer: str,
    ids: Sequence[int] | None,
    *,
    answer_by: Author = "student",
    problem: tuple[Message, ...] = PROBLEM,
) -> Trajectory:
    renderer = form(name).renderer
    if name == "metaspace":  # its template accepts no system message
        problem = problem[-1:]
    packed = None
    if ids is not None:
        packed = StudentIds(thinking=pack_ids(ids), answer=pack_ids(renderer.codec.encode(answer)))
    content = renderer.assistant(thinking, answer)
    return Trajectory(
        id="a", sample=0, strategy="tessy", thinking=thinking, answer=answer, spans=tuple(spans),
        messages=(*problem, Message(role="assistant", content=content)), answer_by=answer_by,
        tokens=TokenCounts(), attempts=1, seconds=1.0, ended_by="student", student_ids=packed,
    )  # fmt: skip


def tile(text: str, cuts: Sequence[int], first: Author) -> list[Span]:
    """Return spans of ``text`` that end at ``cuts``, with alternating authors."""
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(text)}), len(text)]
    authors: list[Author] = ["student", "teacher"] if first == "student" else ["teacher", "student"]
    return [
        Span(start=start, end=end, author=authors[index % 2])
        for index, (start, end) in enumerate(pairwise(bounds))
    ]


AUTHORS: Any = st.sampled_from(["student", "teacher"])


@st.composite
def written(draw, name: str, texts: Any = TEXTS) -> Trajectory:
    """Draw a row as the synthesis writes it: spans end at edges and are encoded one by one."""
    thinking = draw(texts)
    spans = tile(thinking, draw(st.lists(st.sampled_from(edges(thinking)))), draw(AUTHORS))
    codec = form(name).renderer.codec
    ids = [i for s in spans for i in codec.encode(thinking[s.start : s.end])]
    return make_row(name, spans, thinking, draw(texts), ids, answer_by=draw(AUTHORS))


def parts(row: Trajectory, tokens: TokenizedSample, name: str) -> tuple[slice, slice]:
    """Return the slices of the thinking with its marker, and of the answer."""
    renderer = form(name).renderer
    prompt = len(renderer.prompt_ids(row.messages[:-1]))
    answer = len(renderer.codec.encode(row.answer))
    return slice(prompt, -1 - answer), slice(-1 - answer, -1)


@pytest.mark.parametrize("student", ["qwen3", "deepseek_r1", "harmony"])
@pytest.mark.parametrize("teacher", ["harmony", "qwen3"])
async def test_ids_start_with_the_prompt_of_the_answer(student, teacher):
    context = make_context(student, teacher)
    row = await tessy(make_attempt(context))
    request = context.backends["student"].engine.requests[-1]
    codec = RENDERERS[student].codec
    tokens = tokenize(row, StudentFormat(RENDERERS[student]))
    assert not tokens.encoded
    assert decode(codec, tokens.ids).startswith(decode(codec, request.prompt.ids))
    assert tokens.ids[: len(request.prompt)] == list(request.prompt.ids)
    assert tokens.ids[-1] in RENDERERS[student].answer_stop_ids


@each_family
@settings(max_examples=40)
@given(data=st.data())
def test_ids_decode_to_prompt_thinking_answer_and_markup(name, data):
    row = data.draw(written(name))
    tokens = tokenize(row, form(name))
    renderer = form(name).renderer
    assert not tokens.encoded
    assert decode(renderer.codec, tokens.ids) == (
        renderer.prompt_text(row.messages[:-1])
        + row.thinking + renderer.shape.closing + row.answer + ENDS[name]
    )  # fmt: skip
    marks = [i for i in tokens.ids[len(renderer.prompt_ids(row.messages[:-1])) :] if
             i in renderer.codec.control_ids]  # fmt: skip
    closing = renderer.template.markup.findall(renderer.shape.closing)
    assert marks == [renderer.codec.control[mark] for mark in [*closing, ENDS[name]]]


@pytest.mark.parametrize("name", SHOWN)
@settings(max_examples=40)
@given(data=st.data())
def test_ids_decode_to_the_output_of_the_chat_template(name, data):
    # Templates search the text for the end of the thinking and would find a quoted marker.
    plain = TEXTS.filter(lambda text: "think>" not in text)
    row = data.draw(written(name, plain))
    renderer = form(name).renderer
    own: Any = PreTrainedTokenizerFast.from_pretrained(FOLDERS[name])
    shown = own.apply_chat_template(
        renderer.turns(row.messages), tokenize=False, reasoning_effort="high"
    )
    assert shown.strip() == decode(renderer.codec, tokenize(row, form(name)).ids)


@each_family
@settings(max_examples=40)
@given(data=st.data())
def test_the_tokens_of_an_author_decode_to_its_spans(name, data):
    row = data.draw(written(name))
    tokens = tokenize(row, form(name))
    codec, closing = form(name).renderer.codec, form(name).renderer.shape.closing
    thought, answer = parts(row, tokens, name)
    found: dict[str, bytes] = {"student": b"", "teacher": b""}
    remaining = len(row.thinking.encode())
    for i, who in zip(tokens.ids[thought], tokens.authors[thought], strict=True):
        piece = codec.token_bytes(i)
        if remaining > 0:
            assert who is not None
            found[who] += piece
            if len(piece) > remaining:  # the last one may contain white space of the marker
                over = piece[remaining:].decode()
                assert closing.startswith(over)
                found[who] = found[who].removesuffix(over.encode())
        else:
            assert who == "student"  # the marker
        remaining -= len(piece)
    for author, text in found.items():
        spans = [row.thinking[s.start : s.end] for s in row.spans if s.author == author]
        assert text.decode() == "".join(spans)
    assert set(tokens.authors[answer]) == {row.answer_by}
    assert tokens.authors[-1] == "student"


@each_family
@settings(max_examples=40)
@given(data=st.data())
@example(data=None)
def test_a_token_of_two_authors_belongs_to_the_author_of_its_first_character(name, data):
    first: Author = "student"
    if data is None:
        thinking, cuts = "Okay, sot 好的👩\u200d👩 wait", [1, 2, 6, 11, 12, 13]
    else:
        thinking = data.draw(TEXTS)
        cuts = data.draw(st.lists(st.integers(0, len(thinking)), max_size=8))
        first = data.draw(AUTHORS)
    ids = form(name).renderer.codec.encode(thinking)  # not split at the spans
    row = make_row(name, tile(thinking, cuts, first), thinking, "4", ids)
    tokens = tokenize(row, form(name))
    thought, _ = parts(row, tokens, name)
    pieces = [form(name).renderer.codec.token_bytes(i) for i in tokens.ids[thought]]
    text = b"".join(pieces)
    assert text.decode() == thinking + form(name).renderer.shape.closing
    for start, author in zip([0, *accumulate(map(len, pieces))], tokens.authors[thought],
                             strict=False):  # fmt: skip
        char = len(text[:start].decode(errors="ignore"))  # the character of this byte
        expected = [span.author for span in row.spans if span.start <= char < span.end]
        assert [author] == (expected or ["student"])


@given(
    data=st.data(),
    loss=st.sampled_from(
        ["all", "student", "teacher", "student=1,teacher=0.5", "teacher=2, student=0"]
    ),
)
def test_weights_follow_the_authors_and_labels_the_weights(data, loss):
    row = data.draw(written("qwen3"))
    tokens = tokenize(row, form("qwen3"))
    by_author = parse_loss(loss)
    weights = tokens.weights(by_author)
    for author, weight in zip(tokens.authors, weights, strict=True):
        assert weight == (0.0 if author is None else by_author[author])
    for i, weight, label in zip(tokens.ids, weights, labels(tokens.ids, weights), strict=True):
        assert label == (i if weight else IGNORED)
    prompt = len(form("qwen3").renderer.prompt_ids(row.messages[:-1]))
    # The model generates <think> and its line break, so they count as the student's.
    assert weights[:prompt] == [0.0] * (prompt - 2) + [by_author["student"]] * 2


@each_family
def test_an_opening_marker_not_in_the_template_is_the_students(name):
    row = make_row(name, tile("Hm.", [], "teacher"), "Hm.", "4", None)
    tokens = tokenize(row, form(name))
    renderer = form(name).renderer
    prompt = len(renderer.prompt_ids(row.messages[:-1]))
    opening = [i for i, a in zip(tokens.ids[:prompt], tokens.authors, strict=False) if a]
    assert decode(renderer.codec, opening) == renderer.shape.suffix
    assert bool(opening) == (name not in ("qwen3_thinking", "deepseek_r1", "r1_distill_llama"))
    assert decode(renderer.codec, [form(name).end_id]) == ENDS[name]


@each_family
@settings(max_examples=40)
@given(data=st.data())
def test_without_ids_the_text_is_encoded_as_in_the_synthesis(name, data):
    row = data.draw(written(name))
    # If a vocabulary has no split point at the last unit, a sampled token may cross the edge, but
    # an encoded one cannot.
    encode, last = form(name).renderer.codec.encode, last_unit(row.thinking)
    piece = row.thinking[(start := row.spans[-1].start) :]
    assume(encode(piece) == encode(piece[: last - start]) + encode(piece[last - start :]))
    again = tokenize(row.model_copy(update={"student_ids": None}), form(name))
    assert again.encoded
    assert again.ids == tokenize(row, form(name)).ids
    assert again.authors == tokenize(row, form(name)).authors


@pytest.mark.parametrize("part", ["thinking", "answer"])
def test_ids_of_another_text_are_ignored(part):
    codec = form("qwen3").renderer.codec
    right = make_row("qwen3", tile("So 4. Done.", [6], "student"), "So 4. Done.", "4", None)
    packed = {"thinking": codec.encode("So 4. Done."), "answer": codec.encode("4")}
    packed[part] = codec.encode("So 5. Done.")
    ids = StudentIds(**{name: pack_ids(i) for name, i in packed.items()})
    tokens = tokenize(right.model_copy(update={"student_ids": ids}), form("qwen3"))
    assert tokens == tokenize(right, form("qwen3"))
    assert tokens.encoded


@each_family
@settings(max_examples=40)
@given(before=st.text("ab .\n", max_size=3), after=st.text("ab .\ufffd", max_size=3))
def test_a_replacement_character_in_the_text_is_kept(name, before, after):
    """Its bytes, spread over several ids, look like an incomplete character."""
    thinking = f"a{before}\ufffd{after}b"
    codec = form(name).renderer.codec
    row = make_row(name, tile(thinking, [], "student"), thinking, "4", codec.encode(thinking))
    tokens = tokenize(row, form(name))
    thought, _ = parts(row, tokens, name)
    closing = form(name).renderer.shape.closing
    assert decode(codec, tokens.ids[thought]) == thinking + closing


def test_sampled_ids_are_kept():
    """A student may sample other tokens than its tokenizer would return."""
    codec = form("qwen3").renderer.codec
    thinking = "The answer is right there. Done."
    first, *rest = units(thinking)
    odd = [i for char in first for i in codec.encode(char)]
    assert odd != codec.encode(first)
    ids = odd + [i for unit in rest for i in codec.encode(unit)]
    row = make_row("qwen3", tile(thinking, [], "student"), thinking, "4", ids)
    tokens = tokenize(row, form("qwen3"))
    start = parts(row, tokens, "qwen3")[0].start
    assert tokens.ids[start : start + len(odd)] == odd
    assert not tokens.encoded


def test_in_a_run_of_one_model_all_tokens_are_its_own():
    alone = StudentFormat(form("qwen3").renderer, "teacher", alone=True)
    tokens = tokenize(make_row("qwen3", tile("Hm.", [], "teacher"), "Hm.", "4", None), alone)
    assert {author for author in tokens.authors if author} == {"teacher"}


def endless(**options: Any) -> Any:
    """Return a tokenizer whose chat template does not end turns."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(FAMILIES / "chatml_plain", **options)
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=True)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
    )
    return tokenizer


def test_a_template_without_end_of_turn_needs_a_unique_stop_token():
    one = make_renderer(endless(eos_token="<|im_end|>", pad_token="<|im_end|>"))
    assert StudentFormat(one).end_id == one.codec.control["<|im_end|>"]
    two = make_renderer(endless(eos_token="<|im_end|>", pad_token="<|endoftext|>"))
    with pytest.raises(ModelError, match="does not end turns"):
        StudentFormat(two)


@pytest.mark.parametrize(
    "loss", ["both", "student=1", "student=1,student=2", "student=1,teacher=x",
             "student=1,student=0.5,teacher=1", "student=1,teacher=inf",
             "student=-1,teacher=1", "student=nan,teacher=1", "a=1,teacher=1",
             "student=0,teacher=0"],
)  # fmt: skip
def test_invalid_weights_are_refused(loss):
    with pytest.raises(ConfigError, match="--loss"):
        parse_loss(loss)
