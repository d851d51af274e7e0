"""Lists of style phrases: their file format, and the prefix tree for lookup.

A line is a phrase of 1 to 4 words with optional markers (``lexicon_en.txt`` documents them):
``^so`` matches only where a sentence starts or directly after another phrase, ``+ again`` only
directly after another phrase, ``well,`` only when punctuation follows, and ``right?`` only before a
question mark. ``#`` starts a comment line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from tessy.core.errors import ConfigError, RowFault

MAX_WORDS = 4  # bounds the look-ahead: a unit is decided at most three units later

# Latin, Greek and Cyrillic: scripts that UAX #29 splits into words the same way.
_LETTER = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u03ff\u0400-\u04ff"
WORD = re.compile(rf"[{_LETTER}]+(?:['’][{_LETTER}]+)*")

# Where a phrase may occur: bit flags, so that a node can hold the union over its subtree.
ANYWHERE, AT_START, AFTER_PHRASE = 1, 2, 4
_PLACES = {"": ANYWHERE, "^": AT_START, "+": AFTER_PHRASE}

_LINE = re.compile(r"(?P<place>[\^+]?)\s*(?P<words>.*?)\s*(?P<mark>[,?]?)")
_SEPARATOR = re.compile(r"[\s,\-]+")


def plain(word: str) -> str:
    """Return the form in which words are compared: lower case, straight apostrophes."""
    return word.lower().replace("’", "'")


@dataclass(slots=True)
class Node:
    """A node of the prefix tree of phrases, with the places (bits) of phrases that end there."""

    after: dict[str, Node] = field(default_factory=dict)
    ends: int = 0  # of phrases that end regardless of what follows
    ends_punctuated: int = 0  # of phrases that require punctuation after them
    ends_question: int = 0  # of phrases that require a question mark after them
    below: int = 0  # of all longer phrases


class Phrases:
    """A set of style phrases."""

    def __init__(self, lines: Iterable[str] = (), *, source: str = "phrases") -> None:
        self.root = Node()  # its paths are phrases in :func:`plain` words
        self.words: set[str] = set()  # every word of any phrase
        self.longest_chars = 1  # length of the longest phrase
        self.add(lines, source=source)

    @classmethod
    def load(cls, extra: Path | None = None) -> Phrases:
        """Load the built-in English phrases, and those of the file ``extra``."""
        built_in = resources.files("tessy.boundary").joinpath("lexicon_en.txt")
        phrases = cls(built_in.read_text("utf-8").splitlines(), source="lexicon_en.txt")
        if extra is not None:
            try:
                text = extra.read_text("utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"--lexicon: cannot read {extra} ({error}); give a UTF-8 text file with one "
                    "phrase a line"
                ) from error
            phrases.add(text.splitlines(), source=str(extra))
        return phrases

    def add(self, lines: Iterable[str], *, source: str) -> None:
        """Add the phrases in ``lines``; the error lists all bad lines of the file ``source``."""
        faults = []
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            fault = self._add_line(line.strip())
            if fault:
                faults.append(RowFault(source, number, "phrase", f"{fault}: {line.strip()!r}"))
        if faults:
            shown = "\n".join(f"  {fault}" for fault in faults)
            raise ConfigError(f"{len(faults)} bad line(s) in the lexicon; fix them:\n{shown}")

    def _add_line(self, line: str) -> str | None:
        """Add one phrase; return what is wrong with the line, or None."""
        match = _LINE.fullmatch(line)
        if match is None:
            return "not a phrase"
        pieces = [piece for piece in _SEPARATOR.split(match["words"]) if piece]
        words = [plain(piece) for piece in pieces]
        if not words:
            return "expected 1 to 4 words, got none"
        for piece in pieces:
            if WORD.fullmatch(piece) is None:
                return f"expected words of letters (with apostrophes inside), got {piece!r}"
        if len(words) > MAX_WORDS:
            return (
                f"expected 1 to {MAX_WORDS} words, got {len(words)}; write the first words as one "
                'phrase and the rest as "+ …" on a line of its own'
            )
        place = _PLACES[match["place"]]
        node = self.root
        for word in words:
            node.below |= place
            node = node.after.setdefault(word, Node())
        if match["mark"] == ",":
            node.ends_punctuated |= place
        elif match["mark"] == "?":
            node.ends_question |= place
        else:
            node.ends |= place
        self.words.update(words)
        self.longest_chars = max(self.longest_chars, sum(map(len, words)) + len(words))
        return None
