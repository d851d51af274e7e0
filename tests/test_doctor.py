"""What ``tessy doctor`` says of chat formats; commands that run it are tested with strategies."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tessy.config.base import RoleConfig
from tessy.config.synthesis import SynthesisOptions
from tessy.core.records import Message, Problem
from tessy.doctor import DoctorReport, _check_format, _check_prompts
from tessy.storage.problems import LoadedProblems, RowPlace
from tests.families.patterns import FAMILIES
from tests.tokenization.test_families_load import CHATML, QUESTION, copy_of

OPTIONS = SynthesisOptions.model_validate(
    {"problems": "q.jsonl", "student": {"model": "s"}, "teacher": {"model": "t"}}
)


@pytest.fixture
def report() -> DoctorReport:
    return DoctorReport(OPTIONS, Console(file=io.StringIO(), width=1000))


def printed(report: DoctorReport) -> str:
    file = report.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def with_template(folder: Path, template: str) -> RoleConfig:
    copy_of("chatml_think", folder)
    (folder / "chat_template.jinja").write_text(template)
    return RoleConfig(model=str(folder))


def test_white_space_that_the_template_does_not_show_is_a_warning(report):
    assert _check_format("student", RoleConfig(model=str(FAMILIES / "deepseek_r1")), report)
    assert not report.problems
    assert "does not show the white space" in report.warnings[0]
    assert r"'<think>\n' … '\n</think>\n\n'" in report.warnings[0]
    shown = DoctorReport(OPTIONS, report.console)
    assert _check_format("student", RoleConfig(model=str(FAMILIES / "qwen3")), shown)
    assert not shown.warnings


def test_a_template_that_never_mentions_thinking_is_a_problem_unless_forced(tmp_path, report):
    role = with_template(tmp_path / "model", CHATML)
    assert _check_format("teacher", role, report) is None
    assert "never mentions <think> or </think>" in report.problems[0]
    forced = role.model_copy(update={"force_thinking": True})
    assert _check_format("teacher", forced, DoctorReport(OPTIONS, report.console)) is not None


def test_a_system_message_that_the_template_ignores_is_a_problem(tmp_path, report):
    template = "<think>" + CHATML.replace("messages", "messages if m.role != 'system'")
    renderer = _check_format("student", with_template(tmp_path / "model", template), report)
    assert renderer is not None
    system = Message(role="system", content="Be brief.")
    problems = (
        Problem(id="good", messages=tuple(QUESTION)),
        Problem(id="bad", messages=(system, *QUESTION)),
    )
    places = (RowPlace("q.jsonl", 1), RowPlace("q.jsonl", 2))
    _check_prompts(renderer, LoadedProblems(problems, (), places), report)
    (problem,) = report.problems
    assert problem.startswith("q.jsonl:2: ")
    assert "turn 1 (system: 'Be brief.')" in problem


def test_the_date_that_a_template_prints_is_reported(tmp_path, report):
    template = "<think>" + CHATML + "{{ strftime_now('%Y') }}"
    renderer = _check_format("student", with_template(tmp_path / "model", template), report)
    assert renderer is not None
    assert f"prompts say {renderer.template.date}" in printed(report)
