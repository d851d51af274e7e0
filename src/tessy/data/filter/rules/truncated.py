"""``truncated``: the answer is cut off."""

from __future__ import annotations

import re
from itertools import accumulate

from tessy.core.formatting import counted
from tessy.data.filter.fences import Fenced, split_fences
from tessy.data.filter.rule import text_rule

_PAIRS = ((r"\[", r"\]"), (r"\(", r"\)"))
_ENVIRONMENT = re.compile(r"\\(begin|end)\{(\w+\*?)\}")
_LAST_DISPLAY = re.compile(r"(?:^[ \t]*\$\$|\$\$[ \t]*$)(?!.*\$\$)", re.MULTILINE | re.DOTALL)
_BOXED = re.compile(r"\\boxed\s*\{")
# A text that ends in one of these is incomplete. Operators must follow a space (not "C++"); words
# match by case (not "The answer is A").
_OPEN_END = re.compile(
    r"(?:(?<=\s)[-+*/=<&–—]|\S\s+\S+\s+\S*,|[:(\[{，、；：（【「]|(?<!\\)\\|"
    # not "an", "or", "was": German and French sentences can end in these
    r"(?:\S+\s+){3}(?:the|of|and|but|to|with|by|for|from|into|than|that|which|whose|because|"
    r"since|if|when|while|is|are|were|be|been|has|have|would|could|should|must))$"
)
_END_CHARS = 300  # of the last line, which may be very long
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]*_`$]*$")
_PROSE_WORDS = 12  # a shorter line may be a heading, a result or a list item
_PROSE_LINES = 3


def truncated(answer: str) -> str | None:
    r"""Return the evidence that ``answer`` is cut off, or None.

    Evidence is an unclosed code fence or formula (``$$``, ``\[``, ``\begin``, the brace of
    ``\boxed``), or a last line that cannot end a text. A last line of at least 12 words without a
    full stop, unless it is a result, is evidence if all other such lines, three or more, have one.
    """
    parts = split_fences(answer)
    if parts.open is not None:
        return f"a code block of {counted(len(parts.open.splitlines()), 'line')} is not closed"
    return _open_maths(parts.prose) or _open_end(answer, parts)


def _open_maths(prose: str) -> str | None:
    prose = re.sub(r"`[^`\n]*`", "", prose)
    for opening, closing in _PAIRS:
        # "\\[2pt]" is a line break in a formula, not an opening bracket.
        opened = len(re.findall(rf"(?<!\\){re.escape(opening)}", prose))
        closed = len(re.findall(rf"(?<!\\){re.escape(closing)}", prose))
        if opened > closed:
            return f"{opened} {opening} and {closed} {closing}"
    # "$$5" may be money: the last mark of a formula is at the start or end of its line.
    if prose.count("$$") % 2 and _LAST_DISPLAY.search(prose):
        return f"{prose.count('$$')} $$, so the last formula is not closed"
    unclosed: list[str] = []
    for kind, name in _ENVIRONMENT.findall(prose):
        if kind == "begin":
            unclosed.append(name)
        elif name in unclosed:
            unclosed.remove(name)
    if unclosed:
        return f"\\begin{{{unclosed[-1]}}} is not closed"
    boxed = list(_BOXED.finditer(prose))
    if boxed and not _closes(prose[boxed[-1].end() :]):
        return "the brace of the last \\boxed is not closed"
    return None


def _closes(text: str) -> bool:
    """Return whether a brace opened before ``text`` is closed in it."""
    braces = re.findall(r"(?<!\\)[{}]", text)
    return 0 in accumulate((1 if brace == "{" else -1 for brace in braces), initial=1)


def _open_end(answer: str, parts: Fenced) -> str | None:
    text = answer.rstrip()
    last = text.rpartition("\n")[2].strip()
    if not last or not parts.prose.rstrip().endswith(last):
        return None  # empty, or ends in code
    # Code in backticks, such as "`[`", may end a text.
    bare = re.sub(r"`[^`]+`", "code", last[-_END_CHARS:]).rstrip("*_` ")
    if (end := _OPEN_END.search(bare)) and len(bare) > 1:
        word = end[0].split()[-1]
        return f"the last line ends in {(',' if word[-1] == ',' else word)!r}: {last[-80:]!r}"
    lines = [line.strip() for line in parts.prose.splitlines()]
    long = [line for line in lines if len(line.split()) >= _PROSE_WORDS]
    if not long or long[-1] != last or "=" in last or not bare[-1:].isalpha():
        return None  # short or a result
    ended = sum(bool(_SENTENCE_END.search(line)) for line in long[:-1])
    if ended == len(long) - 1 >= _PROSE_LINES and not _SENTENCE_END.search(last):
        return f"the last line has no full stop, unlike {ended} others: {last[-80:]!r}"
    return None


# Finished thinking always has its end marker, so only the answer can be cut off.
RULE = text_rule("truncated", 10, "the answer is cut off", lambda row: truncated(row.answer))
