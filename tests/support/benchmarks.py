"""Benchmarks with fewer problems, for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tessy.evaluation import files
from tessy.evaluation.benchmarks.registry import all_benchmarks
from tessy.evaluation.official import command


def sized(
    monkeypatch: pytest.MonkeyPatch, name: str, rows: int, *, known: Path | None = None
) -> None:
    """Let a benchmark have this many problems, and a file whose checksum is known."""
    copies = frozenset[str]() if known is None else frozenset({files.checksum(known)})
    small = dict(all_benchmarks())
    small[name] = replace(small[name], rows=rows, copies=copies)
    for module in (files, command):
        monkeypatch.setattr(module, "all_benchmarks", lambda: small)
