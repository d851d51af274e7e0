"""Published vocabularies: text comes back unchanged, edges are token boundaries, little is lost.

``TESSY_SWEEP=100`` multiplies the number of texts (``make test-vocabularies``).
"""

from __future__ import annotations

import os
import random
import string
from collections.abc import Callable
from itertools import accumulate

import pytest

from tessy.core.edges import hard_edges, units
from tessy.core.records import Author
from tessy.inference.scripted import ByteCodec, reference_script
from tessy.tokenization.token_ids import Codec, decode
from tests.families.published import REAL, real_codec, real_tokenizer
from tests.support.cooperation_driver import (
    CODECS,
    ReferenceClasses,
    both,
    engine,
    make,
    run,
    stop_of,
)
from tests.support.paths import ROOT
from tests.synthesis.test_cooperation import check_ids, leaked_positions, style

SWEEP = int(os.environ.get("TESSY_SWEEP", "1"))
PIECES = [
    "Okay,", "let's", "see.", "x=3", "don't", "WAIT", "naïve", "汉字很长", "中文字很长的一句",
    "e\u0301", "👩\u200d👩\u200d👧", "\\frac{a}{b}", "a" * 50, "/x", "▁", "▁▁", "1234567", "\u00a0",
    "\u3000", "</think>", "<|im_end|>", "[INST]", "<bos>", "हिन्दी", "\u1112\u1161\u11ab", "\x00",
    "\U0010ffff", " ", " ", " ", " ", "\n", "\n\n", "  ", "    ", "\n   ", "\t", "\r\n", "\n\n\n",
    "", ".", "/",
]  # fmt: skip
# Tokens that cross an edge: Gemma has no pre-tokenizer, and this one in its vocabulary.
CROSSED = {"gemma3": ("> </",)}
each_vocabulary = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in REAL]
)


def texts(seed: int, count: int, pieces: int = 60) -> list[str]:
    rng = random.Random(seed)

    def piece() -> str:
        if rng.random() < 0.3:
            return "".join(rng.choices(string.printable, k=rng.randint(1, 6)))
        return rng.choice(PIECES)

    return ["".join(piece() for _ in range(pieces)) for _ in range(count * SWEEP)]


@each_vocabulary
def test_text_comes_back_unchanged_and_without_markup(name):
    codec = real_codec(name)
    for text in [*texts(1, 150), *codec.control]:
        ids = codec.encode(text)
        assert b"".join(codec.pieces(ids)) == text.encode()
        assert codec.control_ids.isdisjoint(ids)


@each_vocabulary
def test_edges_are_token_boundaries_whatever_is_written_before_and_behind(name):
    codec = real_codec(name)
    checked = 0
    for text in texts(2, 100):
        pieces = codec.pieces(codec._spell(text))
        bounds = set(accumulate(map(len, pieces)))
        for edge in hard_edges(text):
            known = any(text.startswith(token, edge - 1) for token in CROSSED.get(name, ()))
            assert known or len(text[:edge].encode()) in bounds, text[edge - 9 : edge + 9]
            checked += 1
        assert codec.encode(text) == codec._spell(text)
    assert checked > 500


@each_vocabulary
def test_ids_of_ordinary_text_are_the_tokenizers(name):
    """For text that the tokenizer does not change."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    expected = real_tokenizer(name)(text, add_special_tokens=False)["input_ids"]
    assert real_codec(name).encode(text) == expected


@each_vocabulary
def test_spans_encoded_one_by_one_cost_few_tokens_in_english_and_code(name):
    """Spans of 12 units on average; docs/decisions.md has the figures."""
    codec = real_codec(name)
    for file, limit in (("CONTRIBUTING.md", 0.005), ("src/tessy/core/edges.py", 0.005)):
        text = (ROOT / file).read_text("utf-8")
        rng = random.Random(3)
        spans = [""]
        for unit in units(text):
            spans[-1] += unit
            if rng.random() < 1 / 12:
                spans.append("")
        tokens = sum(len(codec.encode(span)) for span in spans)
        assert tokens <= len(codec.encode(text)) * (1 + limit)


def script_of(reference: str, codec: Codec) -> Callable[[bytes, int], list[int]]:
    """Continue ``reference`` from any byte of it, then stop."""
    if isinstance(codec, ByteCodec):
        return reference_script(reference, codec)
    data = reference.encode()
    of_bytes = {codec.token_bytes(token_id): token_id for token_id in range(1000)}

    def script(text: bytes, seed: int) -> list[int]:
        start = len(text)
        while start < len(data) and data[start] & 0xC0 == 0x80:  # inside a character
            start += 1
        inside = [of_bytes[data[at : at + 1]] for at in range(len(text), start)]
        return [*inside, *codec.encode(data[start:].decode()), stop_of(codec)]

    return script


@each_vocabulary
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_cooperation_with_known_classes_has_no_leaks(name: str, role: Author):
    codecs: dict[Author, Codec] = {**CODECS, role: real_codec(name)}
    for seed, reference in enumerate(texts(4, 4, pieces=40)):
        text = reference.strip()
        known = both(ReferenceClasses(text, style, sees_next=seed % 2 == 0))
        engines = {a: engine(script_of(text, c), c, a, 3) for a, c in codecs.items()}
        machine = make(codecs, known, request_tokens=20)
        run(machine, engines, known)
        assert machine.thinking.text == text
        assert leaked_positions(machine, text) == 0
        assert machine.thinking.forced == {"student": 0, "teacher": 0}
        if role == "student":
            assert decode(codecs[role], machine.thinking.student_ids) == text
        else:
            check_ids(machine)
