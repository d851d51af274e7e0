"""The splitter in docs/restyle.md."""

from __future__ import annotations

import re
from pathlib import Path

from tessy.boundary.load import load_predictor
from tessy.core.records import TeacherTrace
from tessy.synthesis.restyling.estimate import split
from tests.support.paths import ROOT


async def test_the_splitter_in_the_docs_splits(tmp_path: Path):
    page = (ROOT / "docs" / "restyle.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "rule.py").write_text(code)
    rule = load_predictor(f"{tmp_path / 'rule.py'}:splitter")
    trace = TeacherTrace(thinking="Okay, so 3 + 4 = 7.\n\nWait, it is 7.")
    places = await split("p", trace, rule, "discard")
    assert places == [("Okay, so", " 3 + 4 = 7.\n\n"), ("Wait,", " it is 7.")]
