"""What is checked of every published template; also the columns of docs/models.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest

from tessy.core.edges import units
from tessy.core.errors import ModelError
from tessy.core.records import Author, Message, Trajectory, unpack_ids
from tessy.data.export.tokens import StudentFormat, tokenize
from tessy.synthesis.strategies.tessy import tessy
from tessy.tokenization.renderer import Renderer
from tessy.tokenization.token_ids import decode
from tests.families.published import Published, renderer_of, tokenizer_of
from tests.synthesis.test_sample import (
    ANSWER,
    PROBLEM,
    RENDERERS,
    THINKING,
    is_style,
    make_attempt,
    make_context,
)

SYSTEM = Message(role="system", content="Be brief.")
USER = Message(role="user", content="Why is  2 + 2 = 4?\n\n    def f(): …")
EARLIER = Message(role="assistant", content="<think>\nPonder this.\n</think>\n\nBecause it is.")
OPTIONS = {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}


def rendered(case: Published) -> None:
    """The format is recognized with its markers, and a model that does not think is refused."""
    if case.family is None:
        with pytest.raises(ModelError, match="never mentions"):
            renderer_of(case)
        return
    renderer = renderer_of(case)
    shape = renderer.shape
    found = (renderer.family, shape.opening, shape.closing, shape.shown)
    assert found == (case.family, case.opening, case.closing, case.shown)
    control = renderer.codec.control
    assert control[case.eos] in renderer.answer_stop_ids


def prompted(case: Published) -> None:
    """Prompts have the ids of the tokenizer, end in the opened thinking, and keep markup text."""
    renderer, tokenizer = renderer_of(case), tokenizer_of(case)
    for messages in ([USER], [SYSTEM, USER], [SYSTEM, USER, EARLIER, USER]):
        text = tokenizer.apply_chat_template(
            renderer.turns(messages), tokenize=False, add_generation_prompt=True, **OPTIONS
        )
        expected = tokenizer(text + renderer.shape.suffix, add_special_tokens=False)["input_ids"]
        ids = renderer.prompt_ids(messages)
        assert ids == expected
        assert decode(renderer.codec, ids).endswith(case.opening)
    marks = f"{case.eos}{case.closing.strip()}{case.opening.strip()}"
    marked = renderer.prompt_ids([USER.model_copy(update={"content": f"What is {marks}?"})])
    plain = renderer.prompt_ids([USER.model_copy(update={"content": "What is x?"})])
    control = renderer.codec.control_ids
    assert [i for i in marked if i in control] == [i for i in plain if i in control]
    assert f"What is {marks}?" in decode(renderer.codec, marked)


@cache
def _row(case: Published, role: Author) -> Trajectory:
    """Make a sample with the model in one role, and a small model in the other."""
    names: dict[Author, str] = {"student": "qwen3", "teacher": "harmony"}
    name = names[role] = f"published {case.template}"
    RENDERERS[name] = renderer_of(case)
    try:
        context = make_context(names["student"], names["teacher"], context=100_000)
        return asyncio.run(tessy(make_attempt(context)))
    finally:
        del RENDERERS[name]


def cooperated(case: Published) -> None:
    """As student and as teacher, every unit is by the author of its class."""
    for role in ("student", "teacher"):
        row = _row(case, role)
        assert (row.thinking, row.answer) == (THINKING, ANSWER)
        owners = [span.author for span in row.spans for _ in range(span.start, span.end)]
        bounds = [0]
        for unit in units(THINKING):
            bounds.append(bounds[-1] + len(unit))
        for start, end in pairwise(bounds):
            style = start == 0 or is_style(THINKING[start:end])
            assert set(owners[start:end]) == {"student" if style else "teacher"}
        assert not any(row.forced.values())


def exported(case: Published) -> None:
    """Training ids are prompt, thinking, markers and answer; where templates keep it, the same."""
    renderer, row = renderer_of(case), _row(case, "student")
    tokens = tokenize(row, StudentFormat(renderer))
    assert not tokens.encoded
    assert row.student_ids is not None
    assert decode(renderer.codec, unpack_ids(row.student_ids.thinking)) == THINKING
    prompt = renderer.prompt_text(PROBLEM.messages)
    text = decode(renderer.codec, tokens.ids)
    assert text == f"{prompt}{THINKING}{case.closing}{ANSWER}{_end(renderer, tokens.ids)}"
    if case.keeps:
        whole = renderer.template.render(renderer.turns(row.messages), prompt=False)
        # GLM's turns end where the next one starts, which the last one lacks.
        assert whole.startswith(text) or text.startswith(whole.rstrip())


def _end(renderer: Renderer, ids: list[int]) -> str:
    assert ids[-1] in renderer.answer_stop_ids
    return renderer.codec.token_bytes(ids[-1]).decode()


CHECKS: dict[str, Callable[[Published], None]] = {
    check.__name__: check for check in (rendered, prompted, cooperated, exported)
}
