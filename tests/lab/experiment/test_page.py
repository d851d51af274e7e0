"""The page of an experiment in a browser, with made-up results of every arm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser

from tessy.lab.experiment.arms import ARMS
from tessy.lab.experiment.charts import charts, main_figure
from tessy.lab.experiment.design import Design, LabJob, full, quick
from tessy.lab.experiment.docs import END, START, main, tables_of
from tessy.lab.experiment.page import CAVEATS, write_pages
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.results import read_results
from tests.support.browser import Watched, launch_browser
from tests.support.lab_runs import NO_ROWS, made_up

ACCURACY = {"teacher-only": 0.3, "tessy": 0.9}
DESIGNS = {
    "quick": quick(),
    "full": replace(
        full(),
        trainings=tuple(replace(one, seeds=one.seeds[:2]) for one in full().trainings),
    ),
}


def left_out_of(design: Design) -> tuple[int, ...]:
    """Return the last of several students."""
    return design.students[1:][-1:]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch_browser() as launched:
        yield launched


@pytest.fixture(scope="module", params=list(DESIGNS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lab") / "out"
    design = DESIGNS[request.param]
    paths = made_up(out, design, ACCURACY)
    left_out = dict.fromkeys(left_out_of(design), "made up")
    write_pages(design, paths, left_out, out)
    return out


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_is_complete(browser, folder, width):
    watched = Watched(browser, width=width)
    page = watched.open(folder / "lab.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt])")
    assert len(images) == 8
    assert all(size > 0 and text for size, text in images)
    text = page.inner_text("body")
    claim = json.loads((folder / "lab.json").read_text())["claim"]
    assert page.inner_text(".claim") == claim
    assert "TESSY held at N = " in claim
    assert "only the thinking in the teacher's" in page.inner_text(".parts")
    assert all(name in text for name in ARMS)
    assert all(caveat in text for caveat in CAVEATS)
    assert f"No score: {NO_ROWS}." in text
    # Text of models is text.
    assert "What is 1 + 2? <b>Now</b>" in text
    words = page.eval_on_selector_all(
        ".word", "words => words.map(w => [w.className, getComputedStyle(w).textDecorationLine])"
    )
    assert {tuple(word) for word in words} == {
        ("word student", "underline"), ("word teacher", "none")
    }  # fmt: skip
    watched.close()


def test_the_untrained_student_has_no_difference_to_itself(folder):
    tables = json.loads((folder / "lab.json").read_text())["tables"]
    columns, rows = tables[0]["columns"], tables[0]["rows"]
    for name, *cells in rows:
        for column, (text, note) in zip(columns, cells, strict=True):
            if column == "to untrained" and name == "untrained":
                assert text == "–"
            elif name in ACCURACY:
                assert note


def test_data_with_classes_instead_of_authors_has_no_leak(folder):
    table = json.loads((folder / "lab.json").read_text())["tables"][-1]
    columns = ["arm", *table["columns"]]
    cells = {name: dict(zip(columns[1:], row, strict=True)) for name, *row in table["rows"]}
    for column in ("style by teacher", "capability by student"):
        assert cells["teacher-only-by-class"][column] == ["–", ""]
        assert cells["teacher-only"][column][0].endswith(" %")
    assert "words have classes instead of authors" in table["about"]


def test_epochs_are_compared_with_the_untrained_student_in_their_questions(folder, request):
    design = DESIGNS[request.node.callspec.params["folder"]]
    results = read_results(design, LabPaths(folder), left_out_of(design))
    by_id = {name: dict(one) for name, one in results.by_id.items()}
    for name, one in by_id.items():
        if name.startswith("untrained"):  # other questions, students and seeds do not matter
            first = name == LabJob("untrained", design.students[0]).id
            kept = design.epoch_questions if first else 0
            calc = one["correct"]["calc"]
            one["correct"] = {**one["correct"], "calc": [*calc[:kept], *[False] * (300 - kept)]}
    other = replace(results, by_id=by_id, _scores={})
    before, after = (
        {chart.title: chart.image for chart in charts(one)} for one in (results, other)
    )
    assert before["Accuracy by epoch"] == after["Accuracy by epoch"]
    assert before["Style alone"] != after["Style alone"]


def test_every_score_has_its_uncertainty_and_n(folder):
    scores = json.loads((folder / "lab.json").read_text())["scores"]
    assert {score["arm"] for score in scores} >= {"untrained", "teacher-only", "tessy"}
    for score in scores:
        assert score["low"] <= score["value"] <= score["high"]
        assert score["runs"] >= 1
        assert score["questions"] >= 100


def test_the_main_figure_is_valid_and_reproducible(folder, request):
    image = (folder / "lab.svg").read_bytes()
    design = DESIGNS[request.node.callspec.params["folder"]]
    results = read_results(design, LabPaths(folder), left_out_of(design))
    assert main_figure(results) == image
    text = "".join(ElementTree.fromstring(image).itertext())
    for word in ("untrained", "teacher-only", "tessy", "accuracy", "training problems N"):
        assert word in text


def test_the_docs_have_the_tables_of_the_page(folder):
    text = tables_of(json.loads((folder / "lab.json").read_text()))
    assert "TESSY held at N = " in text
    for title in ("Accuracy in calc", "Accuracy in rev", "The training data"):
        assert f"### {title}\n" in text
    assert "| teacher-only |" in text


def test_the_docs_are_replaced_between_their_marks(folder, tmp_path, capsys):
    page = tmp_path / "lab.md"
    page.write_text(f"head\n{START}old\n{END}tail\n")
    assert main([str(folder / "lab.json"), str(page)]) == 0
    text = page.read_text()
    assert text.startswith(f"head\n{START}\n")
    assert text.endswith(f"\n{END}tail\n")
    assert "old" not in text
    page.write_text(f"head\n{START}old\ntail\n")
    with pytest.raises(SystemExit):
        main([str(folder / "lab.json"), str(page)])
    assert "has no lines <!-- results --> and <!-- end of results -->" in capsys.readouterr().err
    assert page.read_text() == f"head\n{START}old\ntail\n"
