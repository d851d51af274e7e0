"""Fixtures of the tests of fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sft_runs import sft_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 13 samples of different lengths."""
    return sft_run(tmp_path_factory.mktemp("sft") / "run")
