"""The page of an evaluation in a browser."""

from pathlib import Path

from playwright.sync_api import Page, expect

from tessy.reports.viewer.page import build_page
from tests.support.browser import Watched, launch_browser
from tests.support.evaluations import judged
from tests.support.page_samples import sample


def test_an_evaluation_is_filtered_by_outcome(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    limit = {"reason": "budget", "detail": "the thinking reached 9 tokens", "final_answer": None}
    rows = [
        judged("a", 0, "correct", judge="maths 1", rule="number"),
        judged("a", 1, "wrong"),
        judged("b", 0, "truncated", **limit),
        judged("b", 1, "correct", judge="maths 1", rule="number"),
        judged("c", 0, "no_answer", reason="eos_in_thinking"),
    ]
    failed = [sample("d", (), counts=(0, 0), reason="server_error")]
    path.write_text(build_page({}, rows, failed, "scores"), "utf-8", newline="\n")
    with launch_browser() as browser:
        watched = Watched(browser)
        check(watched.open(path))
        watched.close()


def check(page: Page) -> None:
    def found(text: str) -> None:
        expect(page.locator("#found")).to_have_text(text)

    options = page.locator("#outcome option").all_inner_texts()
    assert options[:3] == ["all (6)", "finished (5)", "failed (1)"]
    assert set(options[3:]) == {
        "– correct (2)", "– wrong (1)", "– truncated (1)", "– no answer (1)", "– server error (1)",
    }  # fmt: skip
    expect(page.locator("#figures")).to_contain_text("Correct")
    expect(page.locator("#figures")).to_contain_text("1 wrong, 1 truncated, 1 no answer")
    page.select_option("#outcome", "truncated")
    found("1 of 6 samples")
    page.click(".row")
    expect(page.locator("#sample .badge")).to_have_text("truncated")
    expect(page.locator("#sample")).to_contain_text("the thinking reached 9 tokens")
    expect(page.locator("#sample")).to_contain_text("budget exceeded")
    page.select_option("#outcome", "finished")
    found("5 of 6 samples")
    page.select_option("#outcome", "correct")
    page.click(".row")
    expect(page.locator("#sample .badge.good")).to_have_text("correct")
    expect(page.locator("#sample")).to_contain_text("maths 1, number")
