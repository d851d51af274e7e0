"""The markers of a turn, read off a chat template by rendering probe conversations.

The text between the known words of a probe shows how the model opens and closes its thinking and
ends its turn. Templates take thinking in different places, and many remove it from all or most
turns, so several probes are tried, from the most to the least direct.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tessy.core.errors import InputError, ModelError
from tessy.tokenization.chat_template import ChatTemplate, Turn
from tessy.tokenization.renderer import THINKING_FIELDS, Shape, ThinkingPlace, thinking_blocks

# Words of the probe conversation, which no template contains or changes.
_QUESTION, _THOUGHTS, _ANSWER, _TOOL = "tessyquestion", "tessythoughts", "tessyanswer", "tessytool"
_USER: Turn = {"role": "user", "content": _QUESTION}
_REPLY: Turn = {"role": "assistant", "content": _ANSWER}
_FIELDS: Turn = _REPLY | dict.fromkeys(THINKING_FIELDS, _THOUGHTS)
_BLOCKS: Turn = _REPLY | {"content": thinking_blocks(_THOUGHTS, _ANSWER)}
_CALL = {"id": "call_1", "type": "function", "function": {"name": _TOOL, "arguments": "{}"}}


def probe_turn(
    template: ChatTemplate, opening: str | None, closing: str, name: str
) -> tuple[Shape, set[str]]:
    """Return the markers of a turn, and the control tokens that end it.

    ``opening`` is the marker that opens the thinking, without white space (None for harmony, where
    a message of its own does), ``closing`` the control token that ends it.

    Raises:
        InputError: The template rejects the conversation.
        ModelError: It drops messages, or its prompt ends after the thinking.
    """
    prompt = _after_question(template.render([_USER]), name)
    complete = _after_question(template.render([_USER, _FIELDS], prompt=False), name)
    history = template.render([_USER, _FIELDS, _USER])
    # The last turn may end differently from earlier ones (harmony).
    ends = {
        mark[0]
        for text in (complete, history)
        if (mark := template.markup.match(text.partition(_ANSWER)[2].lstrip()))
    }
    if opening is None:
        shape = _harmony_shape(prompt, complete, closing)
    else:
        shape = _shown_shape(template, prompt, opening, closing)
        shape = shape or _usual_shape(prompt, complete, opening, closing)
    if shape is None:
        raise ModelError(
            f"the chat template of {name!r} does not open the thinking: its prompt ends in "
            f"{prompt[-80:]!r}; use the thinking variant of the model, or another template"
        )
    return shape, ends


def _after_question(text: str, name: str) -> str:
    before, found, after = text.rpartition(_QUESTION)
    if not found:
        raise ModelError(f"the chat template of {name!r} drops the user's message: {before!r}")
    return after


def _harmony_shape(prompt: str, complete: str, closing: str) -> Shape | None:
    before, _, rest = complete.partition(_THOUGHTS)
    between, found, _ = rest.partition(_ANSWER)
    if not found or between.count(closing) != 1 or not before.startswith(prompt):
        return None
    suffix = before[len(prompt) :]  # the prompt does not open a channel
    return Shape(suffix, suffix, between, "fields")


def _shown_shape(template: ChatTemplate, prompt: str, opening: str, closing: str) -> Shape | None:
    """Return the shape of a turn that the template renders with thinking; None if it never does.

    A probe that the template rejects, or renders in another way, shows nothing.
    """
    in_text: Turn = _REPLY | {"content": f"{opening}{_THOUGHTS}{closing}{_ANSWER}"}
    spaced: Turn = _REPLY | {"content": f"{opening}\n{_THOUGHTS}\n{closing}\n\n{_ANSWER}"}
    probes: list[tuple[Turn, ThinkingPlace]] = [(_FIELDS, "fields"), (_BLOCKS, "blocks")]
    for turn, place in probes:
        if shape := _read_shape(_rendered(template, turn), prompt, opening, closing):
            return replace(shape, place=place)
    found = [_rendered(template, turn) for turn in (in_text, spaced)]
    if found[0] == found[1] and (shape := _read_shape(found[0], prompt, opening, closing)):
        return shape  # the template writes white space of its own
    # Some templates render thinking only before a call of a tool (Gemma 4), which may come first.
    text = _rendered(template, _FIELDS | {"tool_calls": [_CALL]})
    before, found_call, after = text.partition(_THOUGHTS)
    marker = re.match(rf"\s*{re.escape(closing)}\s*", after)
    if found_call and marker and _TOOL in after:
        return _read_shape(before + _THOUGHTS + marker[0] + _ANSWER, prompt, opening, closing)
    return None


def _rendered(template: ChatTemplate, turn: Turn) -> str:
    """Return the turn as rendered after the question; empty if the template rejects it."""
    try:
        return template.render([_USER, turn], prompt=False).rpartition(_QUESTION)[2]
    except InputError:
        return ""


def _read_shape(complete: str, prompt: str, opening: str, closing: str) -> Shape | None:
    """Return the shape of a rendered turn; None if it lacks the thinking between its markers."""
    before, _, rest = complete.partition(_THOUGHTS)
    between, found, _ = rest.partition(_ANSWER)
    start = before.rfind(opening)
    if not found or start < 0 or between.strip() != closing or before[start:].strip() != opening:
        return None
    if not before.startswith(prompt):
        return None
    return Shape(before[len(prompt) :], before[start:], between, "content")


def _usual_shape(prompt: str, complete: str, opening: str, closing: str) -> Shape | None:
    """Return the shape for templates that never render thinking, as far as they show it.

    A prompt that opens the thinking shows the white space after the opening marker, and an answer
    after an empty thinking that around the closing one. What nothing shows is as in DeepSeek-R1 and
    Qwen3 for ``<think>``, and no white space for other markers.
    """
    empty = re.search(rf"({re.escape(opening)})?(\s*){re.escape(closing)}(\s*){_ANSWER}", complete)
    begun = prompt.rstrip().endswith(opening)
    if closing in prompt:
        return None
    if begun:
        begin = prompt[prompt.rindex(opening) :]
        suffix = ""
    else:
        space = "\n" if opening == "<think>" else ""
        if empty and empty[1]:
            space = empty[2][: (len(empty[2]) + 1) // 2]
        begin = suffix = opening + space
    if empty and (begun or empty[1]):
        before = "\n" if begin.endswith("\n") else ""
        return Shape(suffix, begin, f"{before}{closing}{empty[3]}", "content")
    end = f"\n{closing}\n\n" if begin.endswith("\n") else closing
    return Shape(suffix, begin, end, "content", shown=False)
