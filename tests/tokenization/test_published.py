"""Published chat templates, rendered, prompted, cooperated and exported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessy.core.errors import InputError
from tessy.core.records import Message
from tests.families.checks import CHECKS, EARLIER, SYSTEM, USER
from tests.families.models_page import PAGE, page
from tests.families.published import CHATML, PUBLISHED, REAL, TEMPLATES, Published, renderer_of

HARMONY = ("<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|return|>", "<|call|>")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=str(c), marks=pytest.mark.xdist_group(c.group)) for c in PUBLISHED],
)
def test_published_template(case: Published, check: str):
    if case.family is None and check != "rendered":
        return  # refused, so there is nothing else to check
    CHECKS[check](case)


@pytest.mark.parametrize(
    ("template", "lost"),
    [
        ("openai-gpt-oss-120b", r"turn 4 \(system: 'Now in French\.'\)"),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", r"turn 1 \(system: 'Be brief\.'\)"),
        ("NVIDIA-Nemotron-Nano-v2", r"turn 4 \(system: 'Now in French\.'\)"),
        ("Qwen3.5-4B", "rejects this conversation .*System message must be"),
        ("google-gemma-4-31B-it", None),
        ("Kimi-K2-Thinking", None),
    ],
)
def test_a_system_message_that_a_published_template_drops_is_named(template, lost):
    case = next(case for case in PUBLISHED if case.template == template)
    # All marks of the others: only the text matters here.
    marks = [*CHATML, *REAL["llama3_1"], *REAL["gemma3"], *case.marks, *HARMONY]
    renderer = renderer_of(replace(case, vocabulary=None, marks=tuple(marks)))
    later = Message(role="system", content="Now in French.")
    messages = [SYSTEM, USER, EARLIER, later, USER]
    if lost is None:
        assert "Now in French." in renderer.prompt_text(messages)
    else:
        with pytest.raises(InputError, match=lost):
            renderer.prompt_ids(messages)
    assert renderer.prompt_ids([SYSTEM, USER, EARLIER, USER])


def test_every_published_template_has_a_case():
    if not TEMPLATES.exists():
        pytest.skip(f"no folder {TEMPLATES}; the published templates are not in this repository")
    assert {file.stem for file in TEMPLATES.glob("*.jinja")} == {c.template for c in PUBLISHED}


def test_the_page_of_models_is_up_to_date():
    """Its marks are those of the tests above, which pass."""
    expected = page({(c.template, check): True for c in PUBLISHED for check in CHECKS})
    assert PAGE.read_text("utf-8") == expected, "run `make models-page`"
