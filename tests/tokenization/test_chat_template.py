"""Texts that a template drops, and the date it prints."""

from __future__ import annotations

import datetime

import pytest

from tessy.core.errors import InputError
from tessy.core.records import Message
from tessy.tokenization.chat_template import check_turns_rendered
from tessy.tokenization.families import load_renderer, make_renderer
from tests.families.patterns import FAMILIES, THINKING
from tests.tokenization.test_families_load import CHATML, QUESTION, with_template

SYSTEM = Message(role="system", content="Be brief.")
EARLIER = [
    Message(role="user", content="One?"),
    Message(role="assistant", content="<think>\nPonder.\n</think>\n\nDone."),
]
# Like Phi-4-reasoning's: its own system message instead of the user's.
IGNORES_SYSTEM = "<think>" + CHATML.replace("messages", "messages if m.role != 'system'")
FIRST_ONLY = "<think>" + CHATML.replace(
    "{{- '<|im_start|>'", "{% if loop.first or m.role != 'system' %}{{- '<|im_start|>'"
).replace("{% endfor %}", "{% endif %}{% endfor %}")


def thinking(template: str):
    return make_renderer(with_template(template, "<think>", "</think>"))


def test_a_system_message_that_the_template_ignores_is_an_error_that_names_it():
    with pytest.raises(InputError, match=r"turn 1 \(system: 'Be brief\.'\); move its text into"):
        thinking(IGNORES_SYSTEM).prompt_ids([SYSTEM, *QUESTION])
    assert thinking(IGNORES_SYSTEM).prompt_ids(QUESTION)


def test_a_later_system_message_that_the_template_drops_is_named():
    renderer = thinking(FIRST_ONLY)
    assert renderer.prompt_ids([SYSTEM, *EARLIER, *QUESTION])
    later = Message(role="system", content="Now in French, <think> aloud.")
    with pytest.raises(InputError, match=r"turn 4 \(system: 'Now in French, <think> aloud\.'\)"):
        renderer.prompt_ids([SYSTEM, *EARLIER, later, *QUESTION])
    with pytest.raises(InputError, match="turn 4"):  # the same text is rendered once, not twice
        renderer.prompt_ids([SYSTEM, *EARLIER, SYSTEM, *QUESTION])


@pytest.mark.parametrize("name", THINKING)
def test_thinking_of_earlier_turns_and_white_space_may_be_missing(name):
    system = [] if name == "metaspace" else [SYSTEM]
    padded = Message(role="user", content="\n  One?  \n")
    assert load_renderer(FAMILIES / name).prompt_ids([*system, padded, EARLIER[1], *QUESTION])


def test_a_text_inside_another_turn_does_not_count():
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why does 'Be brief.' matter?"},
    ]
    check_turns_rendered("Be brief.|Why does 'Be brief.' matter?|", turns, "m")
    with pytest.raises(InputError, match=r"turn 1 \(system"):
        check_turns_rendered("|Why does 'Be brief.' matter?|", turns, "m")


def test_a_date_in_the_template_is_the_given_one():
    tokenizer = with_template(
        "{{ strftime_now('%Y-%m-%d, %H:%M') }}" + CHATML + "<think>", "<think>", "</think>"
    )
    day = datetime.date(2026, 2, 3)
    renderer = make_renderer(tokenizer, date=day)
    assert renderer.prompt_text(QUESTION).startswith("2026-02-03, 00:00<|im_start|>")
    assert renderer.template.prints_date
    assert renderer.template.date == day
    today = make_renderer(tokenizer).template.date
    assert abs(today - datetime.date.today()) <= datetime.timedelta(days=1)
    assert not load_renderer(FAMILIES / "qwen3").template.prints_date
