"""``chat_markers``: markup of a chat format in thinking or answer."""

from __future__ import annotations

import re

from tessy.data.filter.rule import find_in_parts, text_rule

_MARKERS = re.compile(
    r"</?think(?:ing)?>|</?tool_call>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<｜[^｜\n]{1,40}｜>|"
    r"<\|(?:im_(?:start|end|sep)|start|end|channel|message|return|call|constrain|endoftext|"
    r"startoftext|endofprompt|(?:begin|end)_of_(?:text|sentence)|(?:start|end)_header_id|eo[tm]_id|"
    r"user|assistant|system|python_tag|reserved_special_token_\d+)\|>|"
    r"◁/?think▷|assistant(?:final|analysis|commentary)(?![a-z])"
)


def chat_markers(problem: str, text: str) -> str | None:
    """Return the first chat format marker in ``text`` that is not in ``problem``, or None."""
    for match in _MARKERS.finditer(text):
        if match[0] not in problem:
            around = " ".join(text[max(0, match.start() - 30) : match.end() + 30].split())
            return f"{match[0]} at character {match.start():,}: {around!r}"
    return None


RULE = text_rule(
    "chat_markers",
    50,
    "markup of a chat format in thinking or answer",
    lambda row: find_in_parts(row, chat_markers),
)
