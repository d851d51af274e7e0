"""Fixtures of the tests of fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sft_runs import sft, sft_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 13 samples of different lengths."""
    return sft_run(tmp_path_factory.mktemp("sft") / "run")


@pytest.fixture(scope="session")
def trained(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A student after two epochs on that run, and what was printed."""
    out = tmp_path_factory.mktemp("trained") / "out"
    return out, sft(run, out)
