"""The tokenizer.json of a tokenizer: its control tokens, bytes of ids, and a plain copy."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tessy.core.errors import ModelError

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
META = "▁"  # U+2581, SentencePiece's space


def backend_spec(tokenizer: PreTrainedTokenizerFast) -> Spec:
    """Return the tokenizer.json of a loaded tokenizer; ModelError without one, or if not BPE."""
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


def plain_backend(backend: Tokenizer, spec: Spec, control: Mapping[str, int]) -> Tokenizer:
    """Return a tokenizer that does not change text and never produces ``control``.

    It shares the vocabulary of ``backend`` unless the vocabulary has to be changed.
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

    ``kept`` are added tokens that are text; they need their ids in the vocabulary.
    """
    vocab, merges = model["vocab"], model["merges"]
    missing = {token["content"]: token["id"] for token in kept if token["content"] not in vocab}
    in_vocab = control.keys() & vocab.keys()
    reachable = bool(in_vocab) and (
        model["ignore_merges"]
        or any(len(token) == 1 for token in in_vocab)
        or any(left + right in in_vocab for left, right in merges)
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


def is_control(content: str, *, special: bool) -> bool:
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


def is_byte_level(spec: Spec) -> bool:
    """Return whether the vocabulary is in GPT-2's byte alphabet."""
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
            and (part["pattern"], part["content"]) == ({"String": " "}, META)
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


BYTE_TO_CHAR = _byte_alphabet()
# Maps the alphabet to Latin-1, whose code points are the bytes. Other characters of Latin-1 are
# mapped outside of it, so that encoding them fails.
_TO_LATIN1 = dict.fromkeys(range(256), "\uffff") | {
    ord(char): chr(byte) for byte, char in BYTE_TO_CHAR.items()
}


def byte_table(spec: Spec, control: Mapping[str, int], *, byte_level: bool) -> dict[int, bytes]:
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
    return token.replace(META, " ").encode()
