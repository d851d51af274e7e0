"""Discovery of export formats by module."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tessy.config.data import ExportConfig
from tessy.core.errors import ConfigError
from tessy.data.export import formats
from tessy.data.export.command import all_formats, export, format_of
from tests.support.exported_runs import FORMATS
from tests.support.rows import fill, row

ADDED = """
from tessy.data.export.format import ExportFormat, json_lines

FORMAT = ExportFormat(
    name="answers",
    suffix=".jsonl",
    write=json_lines(lambda row: {"answer": row.answer}),
    hint=lambda job, result: f"{result.rows} answers",
)
"""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Add a module with another format."""
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "answers.py").write_text(ADDED)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "formats")])
    all_formats.cache_clear()
    yield
    all_formats.cache_clear()


def test_help_lists_every_format():
    description = ExportConfig.model_fields["to"].description
    assert description is not None
    assert set(all_formats()) == set(FORMATS)
    assert all(f"`{name}`" in description for name in all_formats())


@pytest.mark.parametrize("name", ["message", "PARQUET", "format"])
def test_an_unknown_format_is_refused_and_known_ones_are_listed(name, tmp_path):
    with pytest.raises(
        ConfigError, match=f"to: expected one of axolotl, dialogs, hf, .*; got '{name}'"
    ):
        format_of(ExportConfig(run=tmp_path, to=name))


@pytest.mark.usefixtures("added")
def test_a_format_needs_only_a_module(tmp_path):
    fill(tmp_path / "run", row(answer="4"), row(sample=1, answer="5"))
    console = Console(file=io.StringIO(), width=200)
    assert export(ExportConfig(run=tmp_path / "run", to="answers"), console) == 0
    written = (tmp_path / "run" / "export" / "answers.jsonl").read_text()
    assert written == '{"answer": "4"}\n{"answer": "5"}\n'
    assert isinstance(console.file, io.StringIO)
    assert "2 answers" in console.file.getvalue()
