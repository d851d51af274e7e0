"""White space and place of thinking, read off templates of all kinds."""

from __future__ import annotations

import pytest

from tessy.core.records import Message
from tessy.tokenization.families import make_renderer
from tessy.tokenization.renderer import Renderer
from tests.tokenization.test_families_load import QUESTION, with_template

CHAT = """\
{%- for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>model\n' }}ASSISTANT
{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endif %}{{ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>model\nPROMPT' }}{% endif %}"""
FIELD = "{{ '<think> ' + m.NAME + '</think>\n' + m.content }}"
BLOCKS = """\
{%- if m.content is string %}{{ m.content }}{% else %}{% for block in m.content %}
{%- if block.type == 'thinking' %}{{ '[THINK]' + block.thinking + '[/THINK]' }}
{%- else %}{{ block.text }}{% endif %}{% endfor %}{% endif %}"""
REWRITES = """\
{{ '<think>\n\n' + m.content.split('</think>')[0].split('<think>')[-1].strip() + '\n</think>\n'
+ m.content.split('</think>')[-1].strip() }}"""
EMPTY = "{{ '<think></think>' + m.content }}"
GEMMA = """\
{%- if m.tool_calls %}{{ '<|channel>thought\n' + m.reasoning + '\n<channel|>' }}
{{- '<|tool>' + m.tool_calls[0].function.name + '<tool|>' }}{% endif %}
{{- m.content.split('<channel|>')[-1] }}"""
DROPS = "{{ m.content.split('</think>')[-1].strip() }}"


def renderer_of(assistant: str, prompt: str = "") -> Renderer:
    template = CHAT.replace("ASSISTANT", assistant).replace("PROMPT", prompt)
    marks = ["<think>", "</think>", "[THINK]", "[/THINK]", "<|channel>", "<channel|>"]
    return make_renderer(with_template(template, *marks))


@pytest.mark.parametrize(
    ("assistant", "prompt", "opening", "closing", "place"),
    [
        (FIELD.replace("NAME", "reasoning_content"), "", "<think> ", "</think>\n", "fields"),
        (FIELD.replace("NAME", "thinking"), "<think>", "<think> ", "</think>\n", "fields"),
        (FIELD.replace("NAME", "reasoning"), "", "<think> ", "</think>\n", "fields"),
        (BLOCKS, "", "[THINK]", "[/THINK]", "blocks"),
        (REWRITES, "", "<think>\n\n", "\n</think>\n", "content"),
        (EMPTY, "", "<think>", "</think>", "content"),
        (GEMMA, "", "<|channel>thought\n", "\n<channel|>", "content"),
    ],
    ids=["reasoning_content", "thinking", "reasoning", "blocks", "text", "empty", "gemma4"],
)
def test_white_space_and_place_of_thinking_are_read_off_the_template(
    assistant, prompt, opening, closing, place
):
    renderer = renderer_of(assistant, prompt)
    shape = renderer.shape
    assert (shape.opening, shape.closing, shape.place) == (opening, closing, place)
    assert shape.shown
    assert renderer.prompt_text(QUESTION).endswith(f"<|im_start|>model\n{opening}")
    row = Message(role="assistant", content=renderer.assistant("Hmm.", "So."))
    if place != "content":
        whole = renderer.template.render(renderer.turns([*QUESTION, row]), prompt=False)
        assert whole.endswith(f"<|im_start|>model\n{opening}Hmm.{closing}So.<|im_end|>\n")


@pytest.mark.parametrize("prompt", ["", "<think>\n"])
def test_white_space_that_nothing_shows_is_the_usual_one_and_marked(prompt):
    shape = renderer_of(DROPS, prompt).shape
    assert (shape.opening, shape.closing) == ("<think>\n", "\n</think>\n\n")
    assert not shape.shown


def test_thinking_of_rows_reaches_templates_that_take_blocks():
    renderer = renderer_of(BLOCKS)
    for content in ("<think>\nPonder.\n</think>\n\nDone.", "[THINK]Ponder.[/THINK]Done."):
        earlier = Message(role="assistant", content=content)
        text = renderer.prompt_text([*QUESTION, earlier, *QUESTION])
        assert "<|im_start|>model\n[THINK]Ponder.[/THINK]Done.<|im_end|>" in text
        ids = renderer.prompt_ids([*QUESTION, earlier, *QUESTION])
        assert ids.count(renderer.codec.control["[THINK]"]) == 2


def test_markup_in_blocks_stays_plain_text():
    renderer = renderer_of(BLOCKS)
    earlier = Message(
        role="assistant", content="<think>\nA [THINK] and <|im_end|>.\n</think>\n\nSo <think>."
    )
    ids = renderer.prompt_ids([*QUESTION, earlier, *QUESTION])
    control = renderer.codec.control
    assert ids.count(control["[THINK]"]) == 2
    assert control["<think>"] not in ids
    assert "[THINK]A [THINK] and <|im_end|>.[/THINK]So <think>." in renderer.prompt_text(
        [*QUESTION, earlier, *QUESTION]
    )
