"""The page in a browser, for runs of other strategies than the paper's."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tessy.reports.viewer.page import build_page
from tests.support.browser import Watched, launch_browser
from tests.support.page_samples import sample


@pytest.fixture
def watched() -> Iterator[Watched]:
    with launch_browser() as browser:
        page = Watched(browser)
        yield page
        page.close()


def test_samples_of_other_strategies_show_their_method(watched: Watched, tmp_path: Path) -> None:
    scored: dict[str, Any] = {
        "strategy": "teacher-score",
        "scores": (3.0, None),
        "unscored": {1: "repetition"},
    }
    shown: dict[str, Any] = {"strategy": "teacher-reference", "reference_answer": "<b>It is 4.</b>"}
    answered: dict[str, Any] = {"answer_by": "teacher"}
    rows = [
        sample(name).model_copy(update=update)
        for name, update in {"a": scored, "b": shown, "c": answered}.items()
    ]
    path = tmp_path / "report.html"
    path.write_text(build_page({}, rows, [], "methods"), "utf-8", newline="\n")
    page = watched.open(path, "#sample=a/0")
    facts = page.locator("#sample .facts")
    expect(facts).to_contain_text(
        re.compile("^teacher-score · .* candidates' scores: 3, repetition · ")
    )
    expect(page.locator("#sample")).not_to_contain_text("shown to the student")
    watched.open(path, "#sample=b/0")
    expect(page.locator("#sample")).to_contain_text("Teacher's answer shown to the student")
    expect(page.locator("#sample")).to_contain_text("<b>It is 4.</b>")
    watched.open(path, "#sample=c/0")
    expect(facts).to_contain_text(" of answer by the teacher · ")
