import pytest

from tessy.core.formatting import (
    duration,
    interval,
    markdown_table,
    percent,
    percentage,
    points,
    short_count,
    size,
    tally,
)


def test_a_share_in_percent():
    assert percent(0.1234) == "12.3 %"
    assert percent(1.0, 0) == "100 %"
    assert percent(None) == "–"
    assert percentage(0.5) == "50.0"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.6875, "68.8"), (0.6625, "66.3"), (0.0705, "7.1"), (0.06649, "6.6"), (0.0004, "0.0")],
)
def test_halves_are_rounded_away_from_zero(share: float, text: str):
    assert percentage(share) == text
    assert points(share) == f"+{text}"
    assert points(-share) == (f"-{text}" if text != "0.0" else "+0.0")


def test_an_interval_is_empty_without_both_ends():
    assert interval(0.1, 0.25, percentage) == "10.0–25.0"
    assert interval(1, 2, str, " to ") == "1 to 2"
    assert interval(None, 2, str) == interval(1, None, str) == ""


def test_counts_by_name():
    assert tally({"budget": 1024, "repetition": 2}) == "budget 1,024, repetition 2"
    assert tally({}) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999_999, "999,999"),
        (999_999.6, "1.000 M"),
        (1_234_567, "1.235 M"),
        (56_780_000_000, "56.78 bn"),
        (5_678_000_000_000, "5,678 bn"),
    ],
)
def test_large_counts_are_short(value: float, text: str):
    assert short_count(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1 kB"),
        (1234, "1.23 kB"),
        (123_400, "123 kB"),
        (999_700, "1 MB"),
        (45.6e9, "45.6 GB"),
        (12_345e12, "12,345 TB"),
    ],
)
def test_bytes(count: float, text: str):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (4.23, "4.2 s"),
        (59.6, "1 min 00 s"),
        (725, "12 min 05 s"),
        (3599.6, "1 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_markdown_table():
    table = markdown_table(("name", "n"), [("a", "1"), ("b|c", "")])
    assert table == "| name | n |\n|---|---|\n| a | 1 |\n| b\\|c |  |\n"
