"""The page of ``tessy compare``, also in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, expect

from tessy.core.records import Failure, Trajectory
from tessy.reports.compare.command import describe_problems
from tessy.reports.compare.figures import collect_figures
from tessy.reports.compare.methods import describe, models
from tessy.reports.compare.page import FOLD_CHARS, build_page
from tessy.reports.compare.sections import ComparedRun, sections
from tests.support.browser import Watched, launch_browser
from tests.support.page_samples import HOSTILE, sample

Rows = Sequence[Trajectory | Failure]
DOCUMENT = {"data_config": {"student.model": "s", "teacher.model": "t"}}


def page_of(
    runs: dict[str, Rows], document: dict[str, Any] | None = None, examples: int = 3
) -> str:
    """Return a page with the first rows of each run as examples."""
    compared = []
    for name, rows in runs.items():
        figures = collect_figures(
            [row for row in rows if isinstance(row, Trajectory)],
            [row for row in rows if isinstance(row, Failure)],
        )
        config = document or DOCUMENT
        method = describe(config, figures.strategies)
        compared.append(
            ComparedRun(name, Path(name), method, models(config), figures, "run/report.html")
        )
    shown = [
        [rows[n] if n < len(rows) else None for rows in runs.values()]
        for n in range(min(examples, max(map(len, runs.values()))))
    ]
    overview = describe_problems([run.figures for run in compared])
    return build_page(compared, sections(compared), shown, overview=overview)


class _Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


TEXTS = st.text(min_size=1) | st.sampled_from(HOSTILE)
PLAIN_TAGS = set(_Page(page_of({"run": [sample("a"), sample("b", reason="budget")]})).tags)


@settings(max_examples=50, deadline=None)
@given(name=TEXTS, question=TEXTS, words=TEXTS, answer=TEXTS, model=TEXTS)
def test_text_is_escaped(name, question, words, answer, model):
    row = sample(
        name, (("student", words),), question=question, answer=answer, problem={"answer": answer}
    )
    failed = sample(name, (("teacher", words),), question=question, answer="", reason="budget")
    document = {"data_config": {"student.model": model, "system_prompt": question}}
    page = _Page(page_of({name: [row], "other": [failed]}, document))
    assert set(page.tags) <= PLAIN_TAGS | {"input", "label"}
    assert "script" not in page.tags
    assert not [key for key, _ in page.attributes if key.startswith("on") or key == "style"]


def test_a_lone_surrogate_is_shown():
    page = page_of({"\udc80": [sample("\ud800", question="lone: \udfff")]})
    assert "lone: \\udfff" in page.encode("utf-8").decode("utf-8")


def test_the_security_policy_allows_only_the_style():
    page = page_of({"run": [sample("a")]})
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#39;none&#39;; img-src data:; style-src &#39;sha256-")
    assert "script-src" not in policy


def test_common_models_are_shown_once_and_others_for_each_run():
    same = page_of({"one": [sample("a")], "two": [sample("a")]})
    assert same.count("<bdi>t</bdi>") == 1
    rows = [sample("a")]
    figures = collect_figures(rows, [])
    runs = [
        ComparedRun(
            name, Path(name), describe(DOCUMENT, figures.strategies), {"teacher": name}, figures
        )
        for name in ("one", "two")
    ]
    differing = build_page(runs, sections(runs), [], overview="")
    assert differing.count("<bdi>one</bdi>") == 1 + 1 + len(sections(runs))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch_browser() as found:
        yield found


@pytest.fixture(params=[1280, 400], ids=["wide", "narrow"])
def watched(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    page = Watched(browser, width=request.param)
    yield page
    page.close()


LONG = "one and two are three, then four. " * (FOLD_CHARS // 30)
RUNS: dict[str, Rows] = {
    "tessy": [
        sample("a", (("student", "Okay, "), ("teacher", "2 + 2 = 4.")), problem={"answer": "4"}),
        sample("b", question="Long?", reason="repetition", pieces=(("teacher", LONG),), answer=""),
    ],
    "a-run-with-a-very-long-name-that-must-break-somewhere": [
        sample("a", answer="It is 5.", problem={"answer": "4"}),
        sample("b", question="Long?", pieces=(("student", LONG),)),
    ],
}


@pytest.fixture
def opened(watched: Watched, tmp_path: Path) -> Watched:
    path = tmp_path / "compare.html"
    path.write_text(page_of(RUNS), "utf-8", newline="\n")
    watched.open(path)
    return watched


def test_words_are_marked_with_their_authors(opened):
    words = opened.page.locator("article").first.locator(".thinking").first.locator("span")
    found = words.evaluate_all("spans => spans.map(s => [s.className, s.textContent])")
    assert found == [["word student", "Okay, "], ["word teacher", "2 + 2 = 4."]]
    line = "e => getComputedStyle(e).textDecorationLine"
    assert [words.nth(n).evaluate(line) for n in range(2)] == ["underline", "none"]


def test_correct_wrong_and_failed_samples_have_badges(opened):
    badges = opened.page.locator(".card .badge").all_inner_texts()
    assert badges == ["correct", "wrong", "failed: repetition"]
    failed = opened.page.locator(".card", has_text="failed")
    expect(failed.locator(".why")).to_have_text("no room was left")
    expect(failed).to_contain_text("Partial thinking")


def test_long_texts_are_collapsed_one_by_one(opened):
    texts = opened.page.locator(".thinking.folded")
    height = "e => e.clientHeight"
    before = [texts.nth(n).evaluate(height) for n in range(2)]
    opened.page.locator("label", has_text="Show all").first.click()
    after = [texts.nth(n).evaluate(height) for n in range(2)]
    assert after[0] > before[0]
    assert after[1] == before[1]
    expect(opened.page.locator("label .less").first).to_be_visible()


def test_the_page_fits_its_window(opened):
    width = "[document.documentElement.scrollWidth, innerWidth]"
    content, window = opened.page.evaluate(width)
    assert content <= window


def test_a_shadow_shows_that_a_table_scrolls(opened):
    table = opened.page.locator(".wide").nth(2)
    table.scroll_into_view_if_needed()
    scrolls = table.evaluate("e => e.scrollWidth > e.clientWidth")
    assert scrolls == (opened.page.evaluate("innerWidth") == 400)
    box = table.bounding_box()
    # Above the text of the heading, at the right edge.
    strip = {"x": box["x"] + box["width"] - 12, "y": box["y"] + 2, "width": 8, "height": 2}
    before = opened.page.screenshot(clip=strip)
    table.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
    assert (opened.page.screenshot(clip=strip) != before) == scrolls


def test_the_page_explains_its_limits():
    page = page_of({"run": [sample("a")]})
    assert "is not measured on this page" in page
    assert "have no interval, because" in page
    assert "The examples at the end show the style." in page
    assert "The examples at the end" not in page_of({"run": [sample("a")]}, examples=0)


def test_hostile_text_is_shown_as_text(watched, tmp_path):
    everything = "\n".join(HOSTILE)
    row = sample(
        everything, tuple(("student", text) for text in HOSTILE), question=everything,
        answer=everything, problem={"answer": everything},
    )  # fmt: skip
    path = tmp_path / "compare.html"
    page = page_of({everything: [row]}, {"data_config": {"system_prompt": everything}})
    path.write_text(page, "utf-8", newline="\n")
    watched.open(path)
    assert watched.page.evaluate("window.pwned") is None
    assert "<script>window.pwned = 1; alert(1)</script>" in watched.page.inner_text(".problem")
