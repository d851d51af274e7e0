"""Content of the page of a run. For the page in a browser see test_page.py."""

import base64
import json
import random
import weakref
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessy.core.errors import RunError
from tessy.core.records import Trajectory
from tessy.reports.viewer.pack import Packer, detail, script_json
from tessy.reports.viewer.page import build_page, write_report
from tests.support import rows as run_rows
from tests.support.evaluations import judged
from tests.support.page_samples import HOSTILE, sample


class _Scripts(HTMLParser):
    """Script elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._inside = True
            self.found.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            attributes, text = self.found[-1]
            self.found[-1] = (attributes, text + data)


def content(page: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the head and the details of all samples, in the order of the index."""
    texts = {attributes.get("id"): text for attributes, text in _Scripts(page).found}
    head = json.loads(texts["head"])
    blocks = [
        json.loads(zlib.decompress(base64.b64decode(texts[f"block-{number}"])))
        for number in range(len(head["blockChars"]))
    ]
    return head, [blocks[entry[-2]][entry[-1]] for entry in head["index"]]


TEXTS = st.text() | st.sampled_from(HOSTILE)


@settings(max_examples=50, deadline=None)
@given(
    name=TEXTS,
    question=TEXTS,
    answer=TEXTS,
    title=TEXTS,
    pieces=st.lists(st.tuples(st.sampled_from(["student", "teacher"]), TEXTS.filter(bool))),
)
def test_any_text_is_stored_unchanged(
    name: str, question: str, answer: str, title: str, pieces: list[tuple[str, str]]
) -> None:
    row = sample(name, tuple(pieces), question=question, answer=answer)
    page = build_page({name: question}, [row], [], title)
    head, (detail,) = content(page)
    assert head["index"][0][0] == name
    assert head["config"] == [[name, question]]
    assert detail["turns"][-1] == ["user", question]
    assert detail["answer"] == answer
    assert detail["pieces"] == [[int(author == "teacher"), words] for author, words in pieces]
    assert len(_Scripts(page).found) == 3  # head, one block, the script


def test_lone_surrogates_and_large_numbers_are_stored_unchanged() -> None:
    row = sample("a", problem={"half": "\ud800", "uid": 2**63 + 1, "nan": float("nan")})
    page = build_page({"x": "\udfff"}, [row], [], "title\udc80")
    page.encode("utf-8")
    head, (detail,) = content(page)
    assert detail["problem"] == [["half", "\ud800"], ["uid", "9223372036854775809"], ["nan", "NaN"]]
    assert head["config"] == [["x", "\udfff"]]


@given(st.text(st.characters()))
def test_script_json_can_be_parsed_and_cannot_end_the_script(text: str) -> None:
    written = script_json({"text": text})
    assert json.loads(written) == {"text": text}
    assert not set(written) & set("<>&\u2028\u2029")


def test_a_full_page_counts_the_samples_it_leaves_out() -> None:
    finished = (sample(f"p{n}") for n in range(7))
    failed = [sample(f"f{n}", reason="budget") for n in range(3)]
    head, details = content(build_page({}, finished, failed, "t", Packer(max_rows=2)))
    assert [entry[0] for entry in head["index"]] == ["p0", "p1", "f0", "f1"]
    assert len(details) == 4
    assert head["leftOut"] == {"finished": 5, "failed": 1}
    assert head["summary"]["samples"] == {
        "finished": 7,
        "failed": 3,
        "attempts": 10,
    }


def test_finished_samples_leave_space_for_failures() -> None:
    def texts() -> Iterator[Trajectory]:
        draw = random.Random(0)
        for n in range(400):
            words = draw.randbytes(5000).hex()
            yield sample(f"p{n}", (("student", words),))

    failed = [sample("f", reason="budget")]
    packer = Packer(max_bytes=1_000_000)
    head, _ = content(build_page({}, texts(), failed, "t", packer))
    assert head["leftOut"]["finished"] > 0
    assert head["leftOut"]["failed"] == 0
    assert len(head["index"]) + head["leftOut"]["finished"] == 401


def test_rows_are_streamed() -> None:
    alive: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
    most = 0

    def rows(reason: str | None) -> Iterator[Any]:
        nonlocal most
        for n in range(20):
            row = alive[f"{reason}{n}"] = sample(f"{reason}{n}", reason=reason)
            yield row
            del row
            most = max(most, len(alive))

    head, _ = content(build_page({}, rows(None), rows("budget"), "t"))
    assert len(head["index"]) == 40
    assert most <= 2


def test_only_the_last_failure_of_an_unfinished_key_is_shown(tmp_path: Path) -> None:
    run_rows.fill(
        tmp_path,
        run_rows.failure("a"),
        run_rows.failure("b"),
        run_rows.failure("b", reason="repetition"),
        run_rows.row("a"),
    )
    head, _ = content(write_report(tmp_path).read_text("utf-8"))
    assert [entry[:3] for entry in head["index"]] == [
        ["a", 0, "finished"],
        ["b", 0, "repetition"],
    ]


def test_write_report_reads_a_run_directory(tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    run_rows.fill(directory, run_rows.row("a"), run_rows.failure("b"))
    path = write_report(directory)
    assert path == directory / "report.html"
    page = path.read_text("utf-8")
    head, details = content(page)
    assert [entry[0] for entry in head["index"]] == ["a", "b"]
    assert details[0]["answer"] == "4"
    assert "<h1><bdi>mine</bdi></h1>" in page
    assert '<span class="tag student">student</span> <bdi>s</bdi>' in page
    assert write_report(directory) == path
    assert sorted(directory.glob("report*")) == [path]


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        write_report(tmp_path)


def test_a_program_has_no_reference() -> None:
    program = judged(outcome="wrong", final_answer="print(3)", reference="", rule="wrong_answer")
    assert detail(program)["verdict"] == [
        ["final answer", "print(3)"],
        ["judge", "exact 1, wrong_answer"],
    ]
    assert ["reference", "4"] in detail(judged())["verdict"]
