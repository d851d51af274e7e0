"""Tests of benchmarks run with ``make test-benchmarks``; smoke tests run with all other tests."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder ``benchmark`` unless they are marked ``smoke``."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("smoke") is None:
            item.add_marker(pytest.mark.benchmark)
