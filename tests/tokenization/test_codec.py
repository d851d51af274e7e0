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
def test_word_by_word_encoding_equals_encoding_the_whole_text(name, text):
    assert codec(name).encode(text) == codec(name)._spell(text)


def byte_level(*pre_tokenizer: Any, added: tuple[AddedToken, ...] = ()) -> HfCodec:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: i for i, char in enumerate([*alphabet, "ĊĊ"])}
    made = Tokenizer(models.BPE(vocab, [("Ċ", "Ċ")]))
    made.pre_tokenizer = pre_tokenizers.Sequence(list(pre_tokenizer))
    made.add_tokens(list(added))
    return HfCodec(PreTrainedTokenizerFast(tokenizer_object=made))


def test_word_by_word_encoding_is_off_if_words_alone_are_split_differently():
    """GPT-2's pre-tokenizer splits two line breaks, but not at the end of a text."""
    text = "Okay, so we are here now.\n\nWe go on and on."
    made = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    assert made.encode(text) == made._spell(text)
    assert not made._word_by_word


@pytest.mark.parametrize("token", [AddedToken("so "), AddedToken(" so", single_word=True)])
def test_word_by_word_encoding_is_off_if_added_tokens_contain_edges(token):
    qwen = tokenizer("qwen3").backend_tokenizer.pre_tokenizer
    text = "Okay, so we go on and onso we have it, andso so."
    made = byte_level(qwen, added=(token,))
    assert made.encode(text) == made._spell(text)
    assert not made._word_by_word
    assert byte_level(qwen)._word_by_word


@pytest.mark.parametrize("name", [name for name in NAMES if name != "metaspace"])
def test_encoded_words_are_cached(name):
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
def test_ids_have_the_bytes_of_the_text_and_include_no_control_id(name, text):
    ids = codec(name).encode(text)
    assert b"".join(map(codec(name).token_bytes, ids)) == text.encode()
    assert decode(codec(name), ids) == text
    assert codec(name).control_ids.isdisjoint(ids)


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(alphabet="abc XYZ.,'\n\t0123é中", max_size=60))
def test_ids_equal_the_tokenizers_for_text_that_it_does_not_change(name, text):
    """For normalized text without markup; SentencePiece also adds a leading space."""
    expected = tokenizer(name)(text, add_special_tokens=False)["input_ids"]
    if name == "metaspace" and text and not text.startswith(" "):
        assert codec(name).encode(" " + text) == expected
    else:
        assert codec(name).encode(text) == expected


@pytest.mark.parametrize("name", NAMES)
def test_bytes_of_every_id_agree_with_the_tokenizers_decoder(name):
    """For ids of complete characters."""
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
def test_control_tokens_are_markup_and_not_white_space(name, control):
    assert set(codec(name).control) == control
    assert codec(name).control_ids == frozenset(codec(name).control.values())


def test_added_tokens_that_are_text_are_used():
    spaces = tokenizer("chatml_think").convert_tokens_to_ids("    ")
    ids = codec("chatml_think").encode("if x:\n    y")
    assert spaces in ids
    assert decode(codec("chatml_think"), ids) == "if x:\n    y"


def test_prompts_are_normalized_and_other_text_is_not():
    decomposed = "cafe\u0301"
    assert decode(codec("qwen3"), codec("qwen3").encode(decomposed)) == decomposed
    assert decode(codec("qwen3"), codec("qwen3").encode_prompt(decomposed)) == "café"


@pytest.mark.parametrize("name", ["qwen3", "metaspace"])
def test_the_error_for_a_lone_surrogate_names_its_position(name):
    with pytest.raises(InputError, match=r"U\+D83D at character 2"):
        codec(name).encode("ab\ud83d")


def test_the_position_of_a_lone_surrogate_is_relative_to_the_whole_text():
    with pytest.raises(InputError, match="at character 37"):
        codec("qwen3").encode("Okay, this is a long text with a bad \ud83d in it")


def test_an_unknown_id_is_a_replacement_character():
    assert codec("qwen3").token_bytes(10**6) == "\ufffd".encode()


def test_digest_is_stable_across_processes_and_differs_between_tokenizers():
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
    # Only the two Qwen tokenizers have the same vocabulary.
    assert codec("qwen3_thinking").digest == codec("qwen3").digest
    assert len({codec(name).digest for name in NAMES}) == len(NAMES) - 1


def changed(name: str, **changes: object) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a family with keys of its tokenizer.json replaced."""
    spec = json.loads(tokenizer(name).backend_tokenizer.to_str())
    backend = Tokenizer.from_str(json.dumps(spec | changes))
    return PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path=f"changed {name}")


def test_digest_changes_with_the_bytes_of_an_id():
    spec = json.loads(tokenizer("qwen3").backend_tokenizer.to_str())
    vocab = dict(spec["model"]["vocab"])
    vocab["A"], vocab["B"] = vocab["B"], vocab["A"]
    swapped = HfCodec(changed("qwen3", model=spec["model"] | {"vocab": vocab}))
    assert swapped.digest != codec("qwen3").digest
    assert HfCodec(changed("qwen3")).digest == codec("qwen3").digest


def test_truncation_and_normalization_of_a_tokenizer_are_ignored():
    truncating = changed(
        "qwen3",
        truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        normalizer={"type": "Lowercase"},
    )
    text = "The Answer is  FORTY-two.\n"
    assert decode(HfCodec(truncating), HfCodec(truncating).encode(text)) == text


def test_control_tokens_in_the_vocabulary_are_never_merged():
    """Even with ``ignore_merges``, as in Llama 3."""
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


def test_added_tokens_that_absorb_white_space_are_not_used():
    backend = Tokenizer.from_str(tokenizer("qwen3").backend_tokenizer.to_str())
    backend.add_tokens([AddedToken("TOTAL", lstrip=True, rstrip=True)])
    built = HfCodec(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert decode(built, built.encode("the  TOTAL  is")) == "the  TOTAL  is"


def test_vocabularies_with_spaces_replaced_by_the_normalizer_are_supported():
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


def test_lossy_tokenizers_are_refused():
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


def test_dropout_of_a_tokenizer_is_ignored():
    spec = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    spec["model"]["dropout"] = 0.9
    make: Any = PreTrainedTokenizerFast  # untyped
    noisy = HfCodec(make(tokenizer_object=Tokenizer.from_str(json.dumps(spec)), eos_token="</s>"))
    text = "Okay, let's see. We need to compute 5 - 3 = 2."
    expected = HfCodec(tiny_tokenizer()).encode(text)
    assert all(noisy.encode(text) == expected for _ in range(10))
