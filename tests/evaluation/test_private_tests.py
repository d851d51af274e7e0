"""Hidden tests are decoded without running anything that a data file contains."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib

import pytest

from tessy.evaluation.programs.base import ProgramTest
from tessy.evaluation.sources import private_tests
from tessy.evaluation.sources.private_tests import BadTestsError, decode_private_tests
from tests.support.livecodebench import case, packed

TESTS = [case("1 2\n", "3\n"), case("é ☃ 😀", "a\tb")]
DECODED = [ProgramTest(test["input"], test["output"]) for test in TESTS]


def encoded(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode("ascii")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_decoded(protocol):
    assert decode_private_tests(packed(TESTS, protocol)) == DECODED


def test_a_plain_list_is_decoded():
    assert decode_private_tests(f" {json.dumps(TESTS)}") == DECODED


def test_a_large_text_is_decoded():
    tests = [case("7 " * 50_000, "x" * 70_000)]
    assert decode_private_tests(packed(tests)) == [ProgramTest("7 " * 50_000, "x" * 70_000)]


class Code:
    def __reduce__(self):
        return os.mkdir, (self.path,)

    def __init__(self, path: str) -> None:
        self.path = path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, protocol):
    trap = tmp_path / "trap"
    pickled = pickle.dumps(Code(str(trap)), protocol=protocol)
    with pytest.raises(BadTestsError, match="which could run code"):
        decode_private_tests(encoded(pickled))
    assert not trap.exists()
    pickle.loads(pickled)  # noqa: S301  # the trap works
    assert trap.exists()


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(private_tests, "_ALWAYS_ALLOWED_BYTES", 1 << 20)
    text = json.dumps([case(" " * (8 << 20), "x")])
    with pytest.raises(BadTestsError, match="expand to more than"):
        decode_private_tests(encoded(pickle.dumps(text)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%%%", "base64"),
        (base64.b64encode(b"no zlib").decode(), "compressed"),
        (base64.b64encode(zlib.compress(b"abc" * 99)[:-9]).decode(), "cut off"),
        (encoded(b"no pickle"), "pickle"),
        (encoded(pickle.dumps("[]")[:-1]), "pickled text"),
        (encoded(pickle.dumps(["[]"])), "could run code"),
        (encoded(pickle.dumps(7)), "could run code"),
        (encoded(b"."), "one pickled text, got 0"),
        (encoded(b"V[]\nV[]\n."), "one pickled text, got 2"),
        (encoded(pickle.dumps("{}")), "expected a JSON list of tests, got dict"),
        (encoded(pickle.dumps("no JSON")), "expected a JSON list of tests"),
        (encoded(pickle.dumps('[{"input": "1"}]')), "`input` and `output` of test 0"),
        ("[7]", "`input` and `output` of test 0"),
    ],
)
def test_other_content_is_refused(text, message):
    with pytest.raises(BadTestsError, match=message):
        decode_private_tests(text)
