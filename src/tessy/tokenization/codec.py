"""Lossless conversion between text and ids of a Hugging Face tokenizer.

Tokenizers normalize text (Unicode normal forms, a leading space) and parse markup (``</think>``
becomes one id). Text that passes between two models must stay unchanged, so the codec uses a copy
of the tokenizer without these steps: only the pre-tokenizer and the merges remain, and the bytes of
the ids are exactly the text.

Two kinds of vocabulary support this: byte-level BPE (GPT-2's alphabet: Qwen, DeepSeek, Llama 3,
gpt-oss) and SentencePiece-like BPE with byte fallback (``▁`` is a space, ``<0xAB>`` a byte).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise, repeat, zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING

from tessy.core.edges import hard_edges
from tessy.core.errors import InputError, ModelError
from tessy.tokenization.tokenizer_json import (
    BYTE_TO_CHAR,
    META,
    Spec,
    backend_spec,
    byte_table,
    collection_paused,
    is_byte_level,
    is_control,
    plain_backend,
)

if TYPE_CHECKING:  # importing transformers is slow
    from transformers import PreTrainedTokenizerFast

# A cached word is faster, and does not release the GIL.
_WORD_CHARS = 24
_CACHED_WORDS = 2**14
_UNKNOWN = "\ufffd".encode()
# Bytes that occur in UTF-8: all but 0xC0, 0xC1 and 0xF5 to 0xFF.
_UTF8 = tuple(b for b in range(0xF5) if b not in (0xC0, 0xC1))
_HARD_SAMPLE = (
    "Okay, let's see.\n\n  x = 1\t\r\n\n\n   — naïve “quotes” e\u0301 ﬁ Å \u212b x² ½ "
    "汉字，かな 한국어 \u1112\u1161\u11ab العربية हिन्दी 👩‍👩‍👧‍👦🏳️‍🌈 \U0001f600\ufe0f "
    "▁under▁ __a__ \x00\x07\u200b\u00a0\u3000 </think><|im_end|>[INST] 1234567 $\\frac{a}{b}$  "
)
_KINDS = [*"aZé汉한7½.$_/(👩", "'s", "\u0301", "\u200b"]  # of neighbours
_ALL_EDGES = "".join(f"{a} {b}\n{b} {a}\n\n{b}\r\n{a}  \n{b} " for a in _KINDS for b in _KINDS)


class HfCodec:
    """The :class:`tessy.tokenization.token_ids.Codec` of a Hugging Face tokenizer.

    ``name`` is the tokenizer's name or path, for messages, and ``control`` the id of each control
    token by its text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Build the byte table and the plain copy; ModelError if they are not lossless."""
        self.name = str(tokenizer.name_or_path)
        self._load(tokenizer)
        self._check_lossless()

    @collection_paused()
    def _load(self, tokenizer: PreTrainedTokenizerFast) -> None:
        spec = backend_spec(tokenizer)
        self.control: Mapping[str, int] = MappingProxyType(
            {
                token["content"]: token["id"]
                for token in spec["added_tokens"]
                if is_control(token["content"], special=token["special"])
            }
        )
        self.control_ids = frozenset(self.control.values())
        self._byte_level = is_byte_level(spec)
        self._table = byte_table(spec, self.control, byte_level=self._byte_level)
        self._meta_ids = self._find_bytes(spec)
        self._backend = plain_backend(tokenizer.backend_tokenizer, spec, self.control)
        self._normalizer = tokenizer.backend_tokenizer.normalizer
        self._words = lru_cache(_CACHED_WORDS)(self._spell)
        self._word_by_word = self._cuts_at_edges(spec)
        self.digest = self._digest(spec)

    def encode(self, text: str) -> list[int]:
        """Return ids whose bytes are exactly ``text``; markup in ``text`` stays plain text.

        Raises InputError for a lone surrogate, which cannot be encoded as UTF-8.
        """
        if len(text) <= _WORD_CHARS:
            return list(self._words(text))
        if not self._word_by_word:
            return self._spell(text)
        ids: list[int] = []
        start = 0
        try:
            for edge in (*hard_edges(text), len(text)):
                word = text[start:edge]
                ids += self._words(word) if edge - start <= _WORD_CHARS else self._spell(word)
                start = edge
        except InputError:  # its message names a position in the word
            raise surrogate_error(text) from None
        return ids

    def _cuts_at_edges(self, spec: Spec) -> bool:
        """Return whether a word between edges (a) or (b) has the same ids alone and in a text.

        True for the families of ``core.edges``. For other tokenizers it is tested whether the
        pre-tokenizer splits every word of a text with all kinds of neighbours as it splits the word
        alone. GPT-2's does not: it splits off the last of several line breaks, except at the end.
        """
        pre_tokenizer = self._backend.pre_tokenizer
        if pre_tokenizer is None or self._backend.normalizer is not None:  # it changes the text
            return False

        def cuts(text: str) -> list[int]:
            return [end for _, (_, end) in pre_tokenizer.pre_tokenize_str(text)]

        bounds = [0, *hard_edges(_ALL_EDGES), len(_ALL_EDGES)]
        alone = [
            start + cut for start, end in pairwise(bounds) for cut in cuts(_ALL_EDGES[start:end])
        ]
        added = spec["added_tokens"]
        across = any(token["single_word"] or hard_edges(token["content"] + "a") for token in added)
        return not across and cuts(_ALL_EDGES) == alone

    def _spell(self, text: str) -> list[int]:
        if self._byte_level or META not in text:
            return self._encode(text)
        # The copy represents a space by ▁, so a ▁ of the text is encoded as its bytes.
        first, *rest = text.split(META)
        ids = self._encode(first)
        for piece in rest:
            ids += self._meta_ids
            ids += self._encode(piece)
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Return ids of a part of a prompt in the model's Unicode form; markup stays plain text.

        Unlike :meth:`encode`, this applies the tokenizer's normalizer. No space is prepended, since
        the part comes from the middle of a prompt.
        """
        if self._normalizer is None:
            return self.encode(text)
        return self._encode(self._normalizer.normalize_str(text))

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes of a token; several tokens may share one character.

        Ids outside the tokenizer's vocabulary (models pad theirs) are U+FFFD.
        """
        return self._table.get(token_id, _UNKNOWN)

    def pieces(self, ids: Iterable[int]) -> list[bytes]:
        """Return :meth:`token_bytes` of each of ``ids``; faster for long texts."""
        return list(map(self._table.get, ids, repeat(_UNKNOWN)))

    def _encode(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        except TypeError:  # raised by tokenizers for text that is not UTF-8
            raise surrogate_error(text) from None
        return ids

    def _find_bytes(self, spec: Spec) -> tuple[int, ...]:
        """Return the ids of the bytes of ▁; check that every byte of UTF-8 has an id."""
        vocab = spec["model"]["vocab"]
        names = BYTE_TO_CHAR if self._byte_level else {b: f"<0x{b:02X}>" for b in _UTF8}
        missing = [b for b in _UTF8 if names[b] not in vocab]
        if missing:
            raise ModelError(
                f"the tokenizer of {self.name!r} has no token for {len(missing)} of the bytes of "
                f"UTF-8 (first: 0x{missing[0]:02X}), so it cannot encode every text; tessy "
                "needs byte-level BPE or BPE with byte fallback"
            )
        return tuple(vocab[names[b]] for b in META.encode())

    def _digest(self, spec: Spec) -> str:
        digest = hashlib.sha256()
        control = self.control_ids
        # Joined, because a call for each of several hundred thousand tokens is slow.
        pieces = sorted(self._table.items())
        digest.update(b"".join([b"%d %d %d\n%b" % (i, i in control, len(b), b) for i, b in pieces]))
        merges = spec["model"]["merges"]
        digest.update("".join([f"{left} {right}\n" for left, right in merges]).encode())
        digest.update(json.dumps(spec["pre_tokenizer"], sort_keys=True).encode())
        return digest.hexdigest()

    def _check_lossless(self) -> None:
        """Check that texts that are difficult for tokenizers are reproduced exactly."""
        for text in (_HARD_SAMPLE, " a", "a", "  \n", *self.control):
            ids = self.encode(text)
            decoded = b"".join(map(self.token_bytes, ids))
            if decoded != text.encode():
                shown = decoded.decode(errors="replace")
                pairs = enumerate(zip_longest(text, shown))
                at = next(i for i, (wanted, got) in pairs if wanted != got)
                raise ModelError(
                    f"the tokenizer of {self.name!r} does not reproduce text unchanged: "
                    f"{text[at : at + 20]!r} became {shown[at : at + 20]!r}; tessy needs "
                    "byte-level BPE or BPE with byte fallback, in a tokenizer.json"
                )
            if not self.control_ids.isdisjoint(ids):
                raise ModelError(
                    f"the tokenizer of {self.name!r} encodes {text!r} with a control token even "
                    "where it is text; tessy needs control tokens that merges do not produce"
                )


def surrogate_error(text: str) -> InputError:
    """Return the error for a text that no tokenizer accepts."""
    at = next((i for i, char in enumerate(text) if "\ud800" <= char <= "\udfff"), 0)
    return InputError(
        f"text contains the lone surrogate U+{ord(text[at]):04X} at character {at} "
        f"({text[max(0, at - 10) : at + 10]!r}), which is not valid Unicode; fix the input"
    )
