"""The vocabulary of simulated models: words of four letters, one token each with its space.

A word is one token wherever it stands, so text survives decoding and encoding, and a client that
sends text counts the same tokens as one that sends ids.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

CHARS_PER_WORD = 5  # with the space before it
THINK, END_THINKING, END_TURN = "<think>", "</think>", "<|im_end|>"
_SPECIAL = ("<|endoftext|>", "<|im_start|>", END_TURN)
_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}"
    "{{ '<|im_start|>assistant\\n' + message.content + '<|im_end|>\\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)


def words() -> list[str]:
    """Return the words, 441 of them."""
    syllables = ["".join(pair) for pair in itertools.product("bdfklmr", "aio")]
    return ["".join(pair) for pair in itertools.product(syllables, repeat=2)]


def make_model_folder(folder: Path, *, preamble: str = "") -> Path:
    """Write a tokenizer with a chat template like Qwen3's, without a model.

    Args:
        folder: Created if it is missing.
        preamble: Words at the start of every prompt.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from tessy.lab.make_tokenizers import STUDENT_TOKENIZER, split_bytes

    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []

    def merge(left: str, right: str) -> None:
        if left + right not in vocab:
            vocab[left + right] = len(vocab)
            merges.append((left, right))

    listed = words()
    for word in listed:
        merge(word[0], word[1])
        merge(word[2], word[3])
    for word in listed:
        merge(word[:2], word[2:])
    for word in listed:
        merge("Ġ", word)  # byte-level BPE's name of the space
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = split_bytes(STUDENT_TOKENIZER.pattern)  # as Qwen's
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in _SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in (THINK, END_THINKING)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 65536,
        "eos_token": END_TURN,
        "pad_token": _SPECIAL[0],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(preamble + _TEMPLATE, encoding="utf-8")
    return folder
