"""The page of a run in a browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tessy.reports.viewer.page import build_page
from tests.support.browser import Watched, launch_browser
from tests.support.page_samples import HOSTILE, sample


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch_browser() as found:
        yield found


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    page = Watched(browser)
    yield page
    page.close()


@pytest.fixture
def phone(browser: Browser) -> Iterator[Watched]:
    page = Watched(browser, width=400)
    yield page
    page.close()


SAMPLES = [
    sample("ducks", question="How many eggs do the ducks lay?", counts=(50, 50)),
    sample("robe", question="How many bolts?", counts=(20, 80), answer="3 bolts"),
    sample(
        "robe",
        (("student", "Hmm, but wait, "), ("teacher", "the bolts\nare three.")),
        number=1,
        counts=(90, 10),
        answer="Three of them.",
    ),
    sample("trains", question="When do the trains meet?", counts=(5, 95)),
]
FAILED = [
    sample("cats", question="Cats?", reason="budget", counts=(0, 0), pieces=(), answer=""),
    sample("dogs", question="Dogs?", reason="repetition", counts=(30, 70), answer=""),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "report.html"
    path.write_text(build_page({"seed": 7}, SAMPLES, FAILED, "a run"), "utf-8", newline="\n")
    return path


@pytest.fixture
def page(watched: Watched, report: Path) -> Page:
    page = watched.open(report)
    expect(page.locator("#sample h2")).to_have_text("ducks sample 0")
    return page


def listed(page: Page) -> list[str]:
    return [
        re.sub(r"\s+", " ", head)
        for head in page.locator(".row .row-head").evaluate_all(
            "heads => heads.map(h => h.children[0].textContent + ' ' + h.children[1].textContent)"
        )
    ]


def found(page: Page, text: str) -> None:
    expect(page.locator("#found")).to_have_text(text)


def test_totals_are_shown(page: Page) -> None:
    figures = " ".join(page.locator("#figures").inner_text().replace("\xa0", " ").split())
    assert "Finished samples 4" in figures
    assert "Failed samples 2 1 budget exceeded, 1 repetition" in figures
    assert "Teacher's share of thinking 58.8 % student 165, teacher 235" in figures
    assert "Thinking tokens, mean 100 median 100, p80 100, longest 100" in figures


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ("TRAINS meet", ["trains "]),  # problem, ignoring case
        ("robe", ["robe ", "robe sample 1"]),  # id
        ("bolts are", ["robe sample 1"]),  # thinking, across a line break
        ("wait, the", ["robe sample 1"]),  # thinking, across authors
        ("three of", ["robe sample 1"]),  # answer
        ("b.*s", []),  # not a regular expression
        ("(", []),
    ],
)
def test_search(page: Page, query: str, hits: list[str]) -> None:
    page.fill("#search", query)
    found(page, f"{len(hits)} of 6 samples")
    assert listed(page) == hits
    page.click("#clear")
    found(page, "6 of 6 samples")


def test_matches_are_marked_and_n_selects_the_next_one(page: Page) -> None:
    page.fill("#search", "wait, the bolts")
    found(page, "1 of 6 samples")
    page.keyboard.press("Enter")
    expect(page.locator("#sample h2")).to_have_text("robe sample 1")
    page.keyboard.press("n")
    marked = page.evaluate("[...CSS.highlights.get('current')].map(String)")
    assert marked == ["wait, the bolts"]


def test_filter_by_outcome(page: Page) -> None:
    options = page.locator("#outcome option").all_inner_texts()
    assert options == [
        "all (6)",
        "finished (4)",
        "failed (2)",
        "– budget exceeded (1)",
        "– repetition (1)",
    ]
    page.select_option("#outcome", "repetition")
    assert listed(page) == ["dogs "]
    page.select_option("#outcome", "failed")
    assert listed(page) == ["cats ", "dogs "]
    page.select_option("#outcome", "finished")
    found(page, "4 of 6 samples")


def test_filter_by_share(page: Page) -> None:
    page.fill("#share-from", "50")
    page.fill("#share-to", "80")
    found(page, "3 of 6 samples")
    assert listed(page) == ["ducks ", "robe ", "dogs "]  # cats have no share
    page.fill("#search", "bolts")
    found(page, "1 of 6 samples")
    page.click("#clear")
    found(page, "6 of 6 samples")


def test_sort(page: Page) -> None:
    page.select_option("#sort", label="highest teacher share")
    assert listed(page) == ["trains ", "robe ", "dogs ", "ducks ", "robe sample 1", "cats "]
    page.select_option("#sort", label="id")
    assert listed(page)[:3] == ["cats ", "dogs ", "ducks "]


def test_words_are_marked_with_their_authors(page: Page) -> None:
    page.locator(".row", has_text="sample 1").click()
    expect(page.locator("#sample h2")).to_have_text("robe sample 1")
    words = page.locator("#thinking > span").evaluate_all(
        "spans => spans.map(s => [s.className, s.textContent])"
    )
    assert words == [
        ["word student", "Hmm, but wait, "],
        ["word teacher", "the bolts\nare three."],
    ]
    decoration = "e => getComputedStyle(e).textDecorationLine"
    assert page.locator(".thinking .student").evaluate(decoration) == "underline"
    assert page.locator(".thinking .teacher").evaluate(decoration) == "none"
    text = page.locator("#sample").inner_text().replace("\xa0", " ")
    for part in ("student 90.0 %", "What is 2 + 2?", "Three of them.", "ended by the student"):
        assert part in text


def test_the_legend_fades_an_author(page: Page) -> None:
    teacher = page.locator(".legend button[data-author=teacher]")
    teacher.click()
    expect(teacher).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".thinking .teacher")).to_have_css("opacity", "0.28")
    expect(page.locator(".thinking .student")).to_have_css("opacity", "1")


def test_a_failure_shows_its_reason(page: Page) -> None:
    page.locator(".row", has_text="cats").click()
    expect(page.locator("#sample .why")).to_have_text("no room was left")
    expect(page.locator("#sample .badge")).to_have_text("budget exceeded")
    assert page.locator("#sample .part", has_text="Thinking").locator(".empty").count() == 1


def test_keys_select_samples_and_change_the_address(page: Page) -> None:
    for key, heading in [
        ("j", "robe sample 0"),
        ("j", "robe sample 1"),
        ("k", "robe sample 0"),
        ("k", "ducks sample 0"),
        ("k", "ducks sample 0"),
    ]:
        page.keyboard.press(key)
        expect(page.locator("#sample h2")).to_have_text(heading)
    page.keyboard.press("j")
    expect(page.locator("#sample h2")).to_have_text("robe sample 0")
    expect(page.locator(".row[aria-selected=true] .row-id")).to_have_text("robe")
    assert page.evaluate("location.hash") == "#sample=robe/0"
    page.keyboard.press("/")
    page.keyboard.type("jk")  # text, not shortcuts
    assert page.input_value("#search") == "jk"


def test_a_link_opens_its_sample(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    name = "a/1 #2 %41 “é” \U0001f600"
    path.write_text(build_page({}, [sample("x"), sample(name, number=3)], [], "t"), "utf-8")
    page = watched.open(path)
    page.keyboard.press("j")
    expect(page.locator("#sample h2")).to_have_text(f"{name} sample 3")
    address = page.locator(".permalink").get_attribute("href")
    assert address is not None
    page.goto("about:blank")
    page = watched.open(path, address)
    expect(page.locator("#sample h2")).to_have_text(f"{name} sample 3")
    watched.faults = [fault for fault in watched.faults if fault != "request: about:blank"]


@pytest.mark.parametrize("address", ["#sample=missing/0", "#sample=%E0%A4%A/0", "#other"])
def test_an_invalid_link_is_ignored(watched: Watched, report: Path, address: str) -> None:
    page = watched.open(report, address)
    expect(page.locator("#sample h2")).to_have_text("ducks sample 0")


def test_hostile_text_is_shown_as_text(watched: Watched, tmp_path: Path) -> None:
    everything = "\n".join(HOSTILE)
    row = sample(
        everything,
        tuple((("student", "teacher")[n % 2], text) for n, text in enumerate(HOSTILE)),
        question=everything,
        answer=everything,
        problem={everything: everything, "list": [everything]},
    )
    path = tmp_path / "report.html"
    config = {"data_config": {"student.model": HOSTILE[1]}, everything: everything}
    page_text = build_page(config, [row], [sample("f", reason="budget")], everything)
    path.write_bytes(page_text.encode("utf-8"))
    page = watched.open(path)
    expect(page.locator("#sample h2 bdi")).to_have_count(1)
    words = page.locator("#thinking > span").evaluate_all("all => all.map(s => s.textContent)")
    assert words == list(HOSTILE)
    for place in ("#sample h2 bdi", ".answer", ".part .problem >> nth=1", ".row-id >> nth=0"):
        assert page.locator(place).text_content() == everything
    assert page.locator("#sample .fields dd").first.text_content() == everything
    page.click("#show-config")
    assert page.locator("#config-fields dd").last.text_content() == everything
    page.click("#hide-config")
    page.fill("#search", "<script>window.pwned")
    found(page, "1 of 2 samples")
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0


def test_the_security_policy_blocks_other_scripts_and_requests(
    report: Path, browser: Browser
) -> None:
    watched = Watched(browser)
    page = watched.open(report)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.pwned = 1";
            document.body.append(script);
            document.body.append(Object.assign(new Image(), { src: "https://example.invalid/x" }));
        }"""
    )
    assert page.evaluate("window.pwned") is None
    assert any("Content Security Policy" in fault for fault in watched.faults)
    watched.faults = [fault for fault in watched.faults if not fault.startswith("console")]
    watched.faults = [fault for fault in watched.faults if "example.invalid" not in fault]
    watched.close()


def test_a_page_with_ten_thousand_samples_is_usable(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    many = (sample(f"p{n}", answer=f"number {n}.") for n in range(10_003))
    path.write_text(build_page({}, many, [], "many"), "utf-8", newline="\n")
    page = watched.open(path)
    found(page, "10,000 of 10,000 samples")
    expect(page.locator("#notice")).to_contain_text("3 finished samples")
    assert page.locator(".row").count() < 40
    page.locator("#scroller").evaluate("list => { list.scrollTop = list.scrollHeight; }")
    expect(page.locator(".row").last).to_contain_text("p9999")
    page.fill("#search", "number 7654.")
    found(page, "1 of 10,000 samples")
    page.keyboard.press("Enter")
    expect(page.locator("#sample h2")).to_have_text("p7654 sample 0")


def test_the_page_of_an_empty_run(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(build_page({}, [], [], "empty"), "utf-8", newline="\n")
    page = watched.open(path)
    expect(page.locator("#sample")).to_have_text("This run has no samples yet.")
    page.keyboard.press("j")
    found(page, "0 of 0 samples")


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_a_small_screen_shows_either_list_or_sample(phone: Watched, report: Path) -> None:
    page = phone.open(report)
    expect(page.locator(".row").first).to_be_visible()
    expect(page.locator("#sample")).to_be_hidden()
    assert fits(page)
    page.locator(".row", has_text="trains").click()
    expect(page.locator("#sample h2")).to_have_text("trains sample 0")
    expect(page.locator("#scroller")).to_be_hidden()
    assert fits(page)
    page.get_by_role("button", name="Previous", exact=True).click()
    expect(page.locator("#sample h2")).to_have_text("robe sample 1")
    page.get_by_role("button", name="Next", exact=True).click()
    expect(page.locator("#sample h2")).to_have_text("trains sample 0")
    page.get_by_role("button", name="‹ Samples").click()
    expect(page.locator("#scroller")).to_be_visible()
    page.go_back()
    expect(page.locator("#sample h2")).to_have_text("trains sample 0")


CONTRAST = """element => {
    const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => {
            const value = part / 255;
            return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let ground = element;
    while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)")
        ground = ground.parentElement;
    const colours = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
    const [low, high] = colours.map(light).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
}"""
PLACES = (
    ".thinking .student",
    ".thinking .teacher",
    ".legend button",
    ".facts",
    ".row-facts",
    "#sample .badge",
    ".why",
    ".problem",
    ".figure .note",
    "h1",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(
    watched: Watched, report: Path, scheme: Literal["light", "dark"]
) -> None:
    watched.page.emulate_media(color_scheme=scheme)
    page = watched.open(report, "#sample=dogs/0")
    expect(page.locator("#sample .why")).to_be_visible()
    contrast = {place: page.locator(place).first.evaluate(CONTRAST) for place in PLACES}
    assert {place: value for place, value in contrast.items() if value < 4.5} == {}


def test_a_run_of_one_author_has_no_shares(watched: Watched, tmp_path: Path) -> None:
    by_teacher: Any = {"counts": (0, 9), "drafted": (0, 9)}
    rows = [sample(name, (("teacher", "We have 4."),), **by_teacher) for name in "ab"]
    failed = [sample("c", (), counts=(0, 0), drafted=(0, 5), reason="repetition")]
    path = tmp_path / "report.html"
    config = {"data_config": {"command": "sample", "author": "teacher", "model": "big"}}
    path.write_text(build_page(config, rows, failed, "alone"), "utf-8", newline="\n")
    page = watched.open(path)
    expect(page.locator(".models")).to_have_text(re.compile(r"^\s*teacher big\s*$"))
    expect(page.locator("#thinking .word.teacher")).to_have_text("We have 4.")
    text = page.inner_text("body")
    assert "thinking ended by the" in text
    for words in ("teacher share", "Teacher's share", "not kept", "Forced", "hand-overs"):
        assert words not in text
    assert page.locator(".legend button, .ribbon, .bar").count() == 0
    page.select_option("#sort", label="longest answer")
    page.select_option("#outcome", label="failed (1)")
    found(page, "1 of 3 samples")
    page.click("#clear")
    found(page, "3 of 3 samples")
