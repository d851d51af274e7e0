"""Create the small tokenizers in this folder: ``python -m tests.families.make``.

Each carries one family's special tokens and pre-tokenizer on a vocabulary of a few hundred tokens,
trained from the text below. The chat templates beside them are written by hand, in the shapes the
families document, without tool calls.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tests.families.patterns import DEEPSEEK3, FAMILIES, LLAMA3, O200K, QWEN2

TEXT = """\
Okay, let's see. The question asks for the sum of the first n numbers. Hmm, so if n is 5, the sum is
1 + 2 + 3 + 4 + 5 = 15. But wait, that's only one case. Let me think again.

Alternatively, we could use the formula n(n + 1)/2. For n = 10: 10 * 11 / 2 = 55. That works.

We need to compute the answer modulo 10^9 + 7. Observation: the values are at most 100, hence
prefix sums suffice. Therefore the complexity is O(n log n).

def solve(values):
    total = 0
    for value in values:
        if value > 0:
            total += value
    return total

So the final answer is $\\frac{n(n+1)}{2}$. I should check the edge cases: an empty list gives 0.
What about negative numbers? They're skipped. Don't forget the user's condition.

Wait, is that right? Let's verify it with 3 - 2 = 1 and 12 / 4 = 3. Yes, it's right.
The answer is 42. You are a helpful assistant. Reasoning: high. system user assistant analysis final
"""
CHATML_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_WORDS = ("<tool_response>", "</tool_response>", "<think>", "</think>")
R1_SPECIALS = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
)
HARMONY_SPECIALS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)


@dataclass(frozen=True)
class Recipe:
    """One tokenizer: ``special`` and ``words`` are added tokens, with and without the flag."""

    name: str
    patterns: Sequence[str]
    special: Sequence[str]
    words: Sequence[str]
    eos: str
    bos: str | None = None
    pad: str | None = None
    nfc: bool = False
    adds_bos: bool = False  # with special tokens on, as Llama 3's post-processor does
    tokenizer_class: str = "PreTrainedTokenizerFast"


RECIPES = (
    Recipe(
        "qwen3",
        QWEN2,
        CHATML_SPECIALS,
        QWEN_WORDS,
        "<|im_end|>",
        pad="<|endoftext|>",
        nfc=True,
    ),
    Recipe(
        "qwen3_thinking",
        QWEN2,
        CHATML_SPECIALS,
        QWEN_WORDS,
        "<|im_end|>",
        pad="<|endoftext|>",
        nfc=True,
    ),
    Recipe(
        "deepseek_r1",
        DEEPSEEK3,
        R1_SPECIALS,
        ("<think>", "</think>"),
        "<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        adds_bos=True,
    ),
    # This class, over a byte-level vocabulary, is what the released distillations name.
    Recipe(
        "r1_distill_llama",
        LLAMA3,
        R1_SPECIALS,
        ("<think>", "</think>"),
        "<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        adds_bos=True,
        tokenizer_class="LlamaTokenizerFast",
    ),
    Recipe(
        "harmony",
        O200K,
        HARMONY_SPECIALS,
        (),
        "<|return|>",
        bos="<|startoftext|>",
        pad="<|endoftext|>",
    ),
    # Runs of spaces as added tokens that are text, as in GPT-NeoX.
    Recipe(
        "chatml_think",
        LLAMA3,
        CHATML_SPECIALS,
        ("    ", "  ", "<think>", "</think>"),
        "<|endoftext|>",
    ),
    Recipe("chatml_plain", QWEN2, CHATML_SPECIALS, (), "<|im_end|>"),
)


def byte_level(recipe: Recipe) -> Tokenizer:
    """Byte-level BPE with the recipe's pattern and tokens."""
    tokenizer = Tokenizer(models.BPE())
    if recipe.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(p), "isolated") for p in recipe.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    add_tokens(tokenizer, recipe.special, recipe.words)
    if recipe.adds_bos and recipe.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{recipe.bos} $A",
            special_tokens=[(recipe.bos, tokenizer.token_to_id(recipe.bos))],
        )
    return tokenizer


def metaspace() -> Tokenizer:
    """SentencePiece-like BPE: ▁ for a space, one in front of each text, bytes as <0xAB>."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trained.train_from_iterator(
        TEXT.splitlines(), trainers.BpeTrainer(vocab_size=300, show_progress=False)
    )
    model = json.loads(trained.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {token: i for i, token in enumerate([*first, *model["vocab"]])}
    merges = [(left, right) for left, right in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    add_tokens(tokenizer, first[:3], ("<think>", "</think>"))
    return tokenizer


def add_tokens(tokenizer: Tokenizer, special: Sequence[str], words: Sequence[str]) -> None:
    """Add markup: special tokens first, then those without the flag."""
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in words])


def save(name: str, tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    """Write the two files of a tokenizer folder that are not written by hand."""
    folder = FAMILIES / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n", encoding="utf-8")
    config = {key: value for key, value in config.items() if value is not None}
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Make them all."""
    for recipe in RECIPES:
        config = {
            "tokenizer_class": recipe.tokenizer_class,
            "model_max_length": 40960,
            "bos_token": recipe.bos,
            "eos_token": recipe.eos,
            "pad_token": recipe.pad,
        }
        save(recipe.name, byte_level(recipe), config)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 40960,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    save("metaspace", metaspace(), config)


if __name__ == "__main__":
    main()
