from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tessy.core.errors import InputError, ModelError
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.token_ids import decode
from tests.families.patterns import FAMILIES, THINKING
from tests.support.tiny_bpe import tokenizer as tiny_tokenizer

NAMES = [*THINKING, "chatml_plain"]
MARKUP = [
    "<|im_end|>", "</think>", "<think>\n", "<｜User｜>", "<|end|>", "<|channel|>", "<s>", "</s>",
    "<unk>", "<0x0A>", "[INST]", "<|im_<|im_end|>end|>",
]  # fmt: skip
HARD = [
    "e\u0301", "\u212b", "ﬁ", "½", "\u1112\u1161\u11ab", "👩\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈",
    "\u200d", "\u00a0", "\u3000", "▁", "▁▁", "  ", "    ", "\n", "\r\n", "\t", "\x00", "汉字",
    "हिन्दी", "\U0010ffff", "\ud7ff",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from([*MARKUP, *HARD, " the", " answer", "42", ".", "don't"]), max_size=12
    ).map("".join),
)


@cache
def tokenizer(name: str) -> Any:  # transformers types its methods by union of all they may return
    # Straight from tokenizer.json: AutoTokenizer gets r1_distill_llama wrong.
    return PreTrainedTokenizerFast.from_pretrained(FAMILIES / name)


@cache
def codec(name: str) -> HfCodec:
    return HfCodec(tokenizer(name))


WORDS = [
    "\n",
    "\n\n",
    " ",
    "/",
    "don't",
    " the",
    " answer",
    "42",
    "x=1;",
    "naïve",
    "汉字",
    "e\u0301",
]


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(st.sampled_from([*WORDS, *HARD]), min_size=8).map("".join))
def test_words_one_by_one_have_the_ids_of_the_whole_text(name, text):
    assert codec(name).encode(text) == codec(name)._spell(text)


def byte_level(*pre_tokenizer: Any, added: tuple[AddedToken, ...] = ()) -> HfCodec:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: i for i, char in enumerate([*alphabet, "ĊĊ"])}
    made = Tokenizer(models.BPE(vocab, [("Ċ", "Ċ")]))
    made.pre_tokenizer = pre_tokenizers.Sequence(list(pre_tokenizer))
    made.add_tokens(list(added))
    return HfCodec(PreTrainedTokenizerFast(tokenizer_object=made))


def test_a_text_is_encoded_whole_where_a_word_alone_is_cut_otherwise():
    """GPT-2's pre-tokenizer cuts two line breaks apart, but not at the end of a text."""
    text = "Okay, so we are here now.\n\nWe go on and on."
    made = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    assert made.encode(text) == made._spell(text)
    assert not made._word_by_word


@pytest.mark.parametrize("token", [AddedToken("so "), AddedToken(" so", single_word=True)])
def test_a_text_is_encoded_whole_where_added_text_reaches_over_edges(token):
    qwen = tokenizer("qwen3").backend_tokenizer.pre_tokenizer
    text = "Okay, so we go on and onso we have it, andso so."
    made = byte_level(qwen, added=(token,))
    assert made.encode(text) == made._spell(text)
    assert not made._word_by_word
    assert byte_level(qwen)._word_by_word


@pytest.mark.parametrize("name", [name for name in NAMES if name != "metaspace"])
def test_words_are_known_again(name):
    fresh = HfCodec(tokenizer(name))
    fresh.encode("Okay, so we have to look at the answer again.")
    before = fresh._words.cache_info().hits
    fresh.encode("Okay, so we have to look at the question again.")
    assert fresh._words.cache_info().hits >= before + 8


@pytest.mark.parametrize("name", NAMES)
@given(text=TEXTS)
@example(text="")
@example(text=" leading and trailing ")
@example(text="".join(MARKUP + HARD))
def test_bytes_of_the_ids_are_the_text_and_none_is_control(name, text):
    ids = codec(name).encode(text)
    assert b"".join(map(codec(name).token_bytes, ids)) == text.encode()
    assert decode(codec(name), ids) == text
    assert codec(name).control_ids.isdisjoint(ids)


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(alphabet="abc XYZ.,'\n\t0123é中", max_size=60))
def test_ids_are_those_of_the_tokenizer_where_it_changes_nothing(name, text):
    """Without markup and in normal form; SentencePiece's space in front is the one difference."""
    expected = tokenizer(name)(text, add_special_tokens=False)["input_ids"]
    if name == "metaspace" and text and not text.startswith(" "):
        assert codec(name).encode(" " + text) == expected
    else:
        assert codec(name).encode(text) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_id_of_the_vocabulary_has_its_bytes(name):
    """Against the tokenizer's own decoder, for ids that are whole characters by themselves."""
    compared = 0
    for token_id in range(len(tokenizer(name))):
        piece = codec(name).token_bytes(token_id)
        shown = tokenizer(name).decode([token_id], skip_special_tokens=False)
        if "\ufffd" not in shown:
            assert piece.decode() == shown, token_id
            compared += 1
    assert compared > 200


@pytest.mark.parametrize(
    ("name", "control"),
    [
        ("qwen3", {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>",
                   "<tool_response>", "</tool_response>"}),
        ("chatml_think", {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"}),
        ("metaspace", {"<unk>", "<s>", "</s>", "<think>", "</think>"}),
    ],
)  # fmt: skip
def test_control_is_markup_and_not_added_white_space(name, control):
    assert set(codec(name).control) == control
    assert codec(name).control_ids == frozenset(codec(name).control.values())


def test_added_tokens_that_are_text_stay_in_use():
    spaces = tokenizer("chatml_think").convert_tokens_to_ids("    ")
    ids = codec("chatml_think").encode("if x:\n    y")
    assert spaces in ids
    assert decode(codec("chatml_think"), ids) == "if x:\n    y"


def test_text_is_not_normalised_but_prompts_are():
    decomposed = "cafe\u0301"
    assert decode(codec("qwen3"), codec("qwen3").encode(decomposed)) == decomposed
    assert decode(codec("qwen3"), codec("qwen3").encode_prompt(decomposed)) == "café"


@pytest.mark.parametrize("name", ["qwen3", "metaspace"])
def test_a_lone_surrogate_is_refused_with_its_place(name):
    with pytest.raises(InputError, match=r"U\+D83D at character 2"):
        codec(name).encode("ab\ud83d")


def test_the_place_of_a_lone_surrogate_is_one_in_the_text():
    with pytest.raises(InputError, match="at character 37"):
        codec("qwen3").encode("Okay, this is a long text with a bad \ud83d in it")


def test_an_unknown_id_shows_as_a_replacement_character():
    assert codec("qwen3").token_bytes(10**6) == "\ufffd".encode()


def test_digest_is_the_same_in_another_process_and_tells_tokenizers_apart():
    program = (
        "import sys; from transformers import PreTrainedTokenizerFast as T;"
        "from tessy.tokenization.codec import HfCodec;"
        "print(HfCodec(T.from_pretrained(sys.argv[1])).digest)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(FAMILIES / "qwen3")],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == codec("qwen3").digest
    # The two Qwens share a vocabulary; the others do not.
    assert codec("qwen3_thinking").digest == codec("qwen3").digest
    assert len({codec(name).digest for name in NAMES}) == len(NAMES) - 1


def changed(name: str, **changes: object) -> PreTrainedTokenizerFast:
    """A family's tokenizer with keys of its tokenizer.json replaced."""
    spec = json.loads(tokenizer(name).backend_tokenizer.to_str())
    backend = Tokenizer.from_str(json.dumps(spec | changes))
    return PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path=f"changed {name}")


def test_digest_changes_with_the_meaning_of_an_id():
    spec = json.loads(tokenizer("qwen3").backend_tokenizer.to_str())
    vocab = dict(spec["model"]["vocab"])
    vocab["A"], vocab["B"] = vocab["B"], vocab["A"]
    swapped = HfCodec(changed("qwen3", model=spec["model"] | {"vocab": vocab}))
    assert swapped.digest != codec("qwen3").digest
    assert HfCodec(changed("qwen3")).digest == codec("qwen3").digest


def test_settings_that_touch_text_are_left_out():
    truncating = changed(
        "qwen3",
        truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        normalizer={"type": "Lowercase"},
    )
    text = "The Answer is  FORTY-two.\n"
    assert decode(HfCodec(truncating), HfCodec(truncating).encode(text)) == text


def test_control_strings_inside_the_vocabulary_cannot_be_merged():
    """Also where a whole pre-token is looked up at once, as Llama 3 does."""
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {"<e": 256, "<e>": 257}
    backend = Tokenizer(models.BPE(vocab, [("<", "e"), ("<e", ">")], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    backend.add_special_tokens([AddedToken("<e>", normalized=False)])
    built = HfCodec(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert built.control == {"<e>": 257}
    assert [built.token_bytes(i) for i in built.encode("<e>")] == [b"<e", b">"]


def test_html_tags_are_text_unless_special():
    backend = Tokenizer.from_str(tokenizer("qwen3").backend_tokenizer.to_str())
    backend.add_tokens(
        [AddedToken("<table>"), AddedToken("<start_of_turn>"), AddedToken("[/INST]")]
    )
    control = HfCodec(PreTrainedTokenizerFast(tokenizer_object=backend)).control
    assert "<table>" not in control
    assert {"<start_of_turn>", "[/INST]"} <= set(control)


def test_added_text_that_swallows_white_space_is_not_used():
    backend = Tokenizer.from_str(tokenizer("qwen3").backend_tokenizer.to_str())
    backend.add_tokens([AddedToken("TOTAL", lstrip=True, rstrip=True)])
    built = HfCodec(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert decode(built, built.encode("the  TOTAL  is")) == "the  TOTAL  is"


def test_gemma_like_vocabularies_write_spaces_in_the_normalizer():
    spec = json.loads(tokenizer("metaspace").backend_tokenizer.to_str())
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = {"type": "Prepend", "prepend": "▁"}
    built = HfCodec(
        changed(
            "metaspace",
            normalizer={"type": "Sequence", "normalizers": [prepend, replace]},
            pre_tokenizer=None,
        )
    )
    assert spec["normalizer"] is None
    text = "a  b ▁c é"
    assert decode(built, built.encode(text)) == text


def refused(backend: Tokenizer) -> str:
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path="some/model")
    with pytest.raises(ModelError, match="some/model") as caught:
        HfCodec(fast)
    return str(caught.value)


def test_tokenizers_that_cannot_give_text_back_are_refused():
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    assert "WordLevel" in refused(words)
    no_bytes = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    no_bytes.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert "no token for" in refused(no_bytes)
    lossy = Tokenizer.from_str(tokenizer("qwen3").backend_tokenizer.to_str())
    lossy.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    lossy.normalizer = normalizers.NFKC()
    assert "unchanged" in refused(lossy)


def test_a_tokenizer_with_dropout_is_encoded_without_it():
    spec = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    spec["model"]["dropout"] = 0.9
    make: Any = PreTrainedTokenizerFast  # untyped
    noisy = HfCodec(make(tokenizer_object=Tokenizer.from_str(json.dumps(spec)), eos_token="</s>"))
    text = "Okay, let's see. We need to compute 5 - 3 = 2."
    expected = HfCodec(tiny_tokenizer()).encode(text)
    assert all(noisy.encode(text) == expected for _ in range(10))
