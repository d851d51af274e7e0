"""Lossless conversion between text and ids of a Hugging Face tokenizer.

Tokenizers normalize text (Unicode normal forms, a leading space) and parse markup (``</think>``
becomes one id). Text that passes between two models must stay unchanged, so the codec uses a copy
of the tokenizer without these steps: only the pre-tokenizer and the merges remain, and the bytes of
the ids are exactly the text.

Two kinds of vocabulary support this: byte-level BPE (GPT-2's alphabet: Qwen, DeepSeek, Llama 3,
gpt-oss) and SentencePiece-like BPE with byte fallback (``▁`` is a space, ``<0xAB>`` a byte).
"""

from __future__ import annotations

import gc
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise, repeat, zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tessy.core.edges import hard_edges
from tessy.core.errors import InputError, ModelError

if TYPE_CHECKING:  # importing transformers is slow
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

Spec = dict[str, Any]  # a tokenizer.json

_MARKUP = re.compile(r"<[^<>\s][^<>]*>|\[/?[A-Z][A-Z_]*\]|◁/?\w+▷", re.DOTALL)
# Gemma lists these as added tokens, although they are text.
_HTML = re.compile(
    r"</?(?:a|b|blockquote|br|caption|code|em|h[1-6]|i|img|li|ol|p|pre|s|strong|sub|sup|table"
    r"|tbody|td|tfoot|th|thead|tr|u|ul)>"
)
# A cached word is faster, and does not release the GIL.
_WORD_CHARS = 24
_CACHED_WORDS = 2**14
_META = "▁"  # U+2581, SentencePiece's space
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

    Attributes:
        name: The tokenizer's name or path, for messages.
        control: Id of each control token, by its text.
        control_ids: The ids of ``control``.
        digest: Hash of everything that determines the bytes of ids and the ids of text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Build the byte table and the plain copy, and check both on a difficult text.

        Raises:
            ModelError: The tokenizer is not lossless.
        """
        self.name = str(tokenizer.name_or_path)
        with collection_paused():
            self._load(tokenizer)
        self._check_lossless()

    def _load(self, tokenizer: PreTrainedTokenizerFast) -> None:
        spec = _backend_spec(tokenizer)
        self.control: Mapping[str, int] = MappingProxyType(
            {
                token["content"]: token["id"]
                for token in spec["added_tokens"]
                if _is_control(token["content"], special=token["special"])
            }
        )
        self.control_ids = frozenset(self.control.values())
        self._byte_level = _is_byte_level(spec)
        self._table = _byte_table(spec, self.control, byte_level=self._byte_level)
        self._meta_ids = self._find_bytes(spec)
        self._backend = _plain_backend(tokenizer.backend_tokenizer, spec, self.control)
        self._normalizer = tokenizer.backend_tokenizer.normalizer
        self._words = lru_cache(_CACHED_WORDS)(self._spell)
        self._word_by_word = self._cuts_at_edges(spec)
        self.digest = self._digest(spec)

    def encode(self, text: str) -> list[int]:
        """Return ids whose bytes are exactly ``text``; markup in ``text`` stays plain text.

        Raises:
            InputError: ``text`` contains a lone surrogate, which cannot be encoded as UTF-8.
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
        if self._byte_level or _META not in text:
            return self._encode(text)
        # The copy represents a space by ▁, so a ▁ of the text is encoded as its bytes.
        first, *rest = text.split(_META)
        ids = self._encode(first)
        for piece in rest:
            ids += self._meta_ids
            ids += self._encode(piece)
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Return ids of a part of a prompt in the model's Unicode form; markup stays plain text.

        Unlike :meth:`encode`, this applies the tokenizer's normalizer. No space is prepended, since
        the part comes from the middle of a prompt.

        Raises:
            InputError: ``text`` contains a lone surrogate.
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
        names = _BYTE_TO_CHAR if self._byte_level else {b: f"<0x{b:02X}>" for b in _UTF8}
        missing = [b for b in _UTF8 if names[b] not in vocab]
        if missing:
            raise ModelError(
                f"the tokenizer of {self.name!r} has no token for {len(missing)} of the bytes of "
                f"UTF-8 (first: 0x{missing[0]:02X}), so it cannot encode every text; tessy "
                "needs byte-level BPE or BPE with byte fallback"
            )
        return tuple(vocab[names[b]] for b in _META.encode())

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
            assert self.control_ids.isdisjoint(ids), text


def _backend_spec(tokenizer: PreTrainedTokenizerFast) -> Spec:
    """Return the tokenizer.json of a loaded tokenizer.

    Raises:
        ModelError: It has none, or its model is not BPE.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path!r} is not a fast one "
            f"({type(tokenizer).__name__}); tessy needs a model with a tokenizer.json"
        )
    spec: Spec = json.loads(backend.to_str())
    if spec["model"]["type"] != "BPE":
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path!r} is {spec['model']['type']}; tessy needs "
            "byte-level BPE or BPE with byte fallback"
        )
    return spec


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection, which visits every entry of a vocabulary again while it loads."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _plain_backend(backend: Tokenizer, spec: Spec, control: Mapping[str, int]) -> Tokenizer:
    """Return a tokenizer that does not change text and never produces ``control``.

    It shares the vocabulary of ``backend`` unless the vocabulary has to be changed.

    Args:
        backend: The tokenizer.
        spec: Its tokenizer.json.
        control: Id of each control token.
    """
    from tokenizers import AddedToken, Tokenizer

    # Added tokens that are plain text (runs of spaces in GPT-NeoX) are kept, because the model is
    # trained with them, except those that absorb adjacent white space. They are added to the
    # vocabulary, which fixes their ids although other added tokens are removed.
    kept = [
        token
        for token in spec["added_tokens"]
        if token["content"] not in control and not (token["lstrip"] or token["rstrip"])
    ]
    parts = {
        "added_tokens": kept,
        "normalizer": _exact_normalizer(spec["normalizer"]),
        "pre_tokenizer": _without_prefix(spec["pre_tokenizer"]),
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    model = _plain_model(spec["model"], kept, control)
    if model is not spec["model"]:
        return Tokenizer.from_str(json.dumps(spec | parts | {"model": model}))
    # Parsing a vocabulary takes seconds, so only the rest of the tokenizer is.
    empty = model | {"vocab": {}, "merges": [], "unk_token": None}
    rest = Tokenizer.from_str(json.dumps(spec | parts | {"model": empty, "added_tokens": []}))
    plain = Tokenizer(backend.model)
    if rest.normalizer is not None:
        plain.normalizer = rest.normalizer
    if rest.pre_tokenizer is not None:
        plain.pre_tokenizer = rest.pre_tokenizer
    options = ("single_word", "normalized", "special")
    plain.add_tokens(
        [AddedToken(token["content"], **{key: token[key] for key in options}) for token in kept]
    )
    return plain


def _plain_model(model: Spec, kept: Iterable[Spec], control: Mapping[str, int]) -> Spec:
    """Return ``model`` if it encodes every text without ``control``, else a copy that does.

    Args:
        model: The part of a tokenizer.json.
        kept: Added tokens that are text; they need their ids in the vocabulary.
        control: Id of each control token.
    """
    vocab, merges = model["vocab"], model["merges"]
    missing = {token["content"]: token["id"] for token in kept if token["content"] not in vocab}
    reachable = not control.keys().isdisjoint(vocab) and (
        model["ignore_merges"] or any(left + right in control for left, right in merges)
    )
    if not (missing or reachable or model["dropout"]):
        return model
    if reachable:
        vocab = {token: i for token, i in vocab.items() if token not in control}
        merges = [
            [left, right]
            for left, right in merges
            if control.keys().isdisjoint((left, right, left + right))
        ]
    # Every byte has a token, so no text is unknown; dropout would make ids random.
    changes = {"vocab": vocab | missing, "merges": merges, "unk_token": None, "dropout": None}
    return model | changes


def surrogate_error(text: str) -> InputError:
    """Return the error for a text that no tokenizer accepts."""
    at = next((i for i, char in enumerate(text) if "\ud800" <= char <= "\udfff"), 0)
    return InputError(
        f"text contains the lone surrogate U+{ord(text[at]):04X} at character {at} "
        f"({text[max(0, at - 10) : at + 10]!r}), which is not valid Unicode; fix the input"
    )


def _is_control(content: str, *, special: bool) -> bool:
    """Return whether an added token is markup rather than text."""
    if special:
        return True
    return bool(_MARKUP.fullmatch(content)) and not _HTML.fullmatch(content)


def _parts(node: Spec | None, key: str) -> list[Spec]:
    """Return the members of a normalizer or pre-tokenizer, sequences flattened."""
    if node is None:
        return []
    if node["type"] == "Sequence":
        return [part for member in node[key] for part in _parts(member, key)]
    return [node]


def _is_byte_level(spec: Spec) -> bool:
    parts = _parts(spec["normalizer"], "normalizers")
    parts += _parts(spec["pre_tokenizer"], "pretokenizers")
    return any(part["type"] == "ByteLevel" for part in parts)


def _exact_normalizer(node: Spec | None) -> Spec | None:
    """Return the parts that the vocabulary requires: the byte alphabet, and ▁ for a space."""
    kept = [
        part
        for part in _parts(node, "normalizers")
        if part["type"] == "ByteLevel"
        or (
            part["type"] == "Replace"
            and (part["pattern"], part["content"]) == ({"String": " "}, _META)
        )
    ]
    return {"type": "Sequence", "normalizers": kept} if kept else None


def _without_prefix(node: Spec | None) -> Spec | None:
    """Remove the option that adds a space before the text."""
    parts = []
    for part in _parts(node, "pretokenizers"):
        if part["type"] == "Metaspace":
            part = part | {"prepend_scheme": "never"}
        elif part["type"] == "ByteLevel":
            part = part | {"add_prefix_space": False}
        parts.append(part)
    return {"type": "Sequence", "pretokenizers": parts} if parts else None


def _byte_alphabet() -> dict[int, str]:
    """Return GPT-2's alphabet: printable Latin-1 is itself, other bytes are U+0100 and above."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(0x100) if b not in set(shown)]
    return {b: chr(b) for b in shown} | {b: chr(0x100 + i) for i, b in enumerate(hidden)}


_BYTE_TO_CHAR = _byte_alphabet()
# Maps the alphabet to Latin-1, whose code points are the bytes. Other characters of Latin-1 are
# mapped outside of it, so that encoding them fails.
_TO_LATIN1 = dict.fromkeys(range(256), "\uffff") | {
    ord(char): chr(byte) for byte, char in _BYTE_TO_CHAR.items()
}


def _byte_table(spec: Spec, control: Mapping[str, int], *, byte_level: bool) -> dict[int, bytes]:
    """Return the bytes of every id of the vocabulary and of added tokens."""
    to_bytes = _byte_level_token if byte_level else _fallback_token
    table = {i: to_bytes(token) for token, i in spec["model"]["vocab"].items()}
    for token in spec["added_tokens"]:
        content: str = token["content"]
        # Gemma lists runs of ▁ as added tokens; as in its vocabulary, they are spaces.
        text = byte_level or content in control
        table[token["id"]] = content.encode() if text else _fallback_token(content)
    return table


def _byte_level_token(token: str) -> bytes:
    try:
        return token.translate(_TO_LATIN1).encode("latin-1")
    except UnicodeEncodeError:  # not in the alphabet, so plain text
        return token.encode()


def _fallback_token(token: str) -> bytes:
    if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace(_META, " ").encode()
