"""After ``--retry-failed``, every reader counts the same failures."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from tessy.config.data import ExportConfig
from tessy.data.export.command import export
from tessy.plan.pilot import read_pilot_samples
from tessy.reports.compare.figures import collect_figures
from tessy.reports.viewer.page import write_report
from tessy.runtime.summary import summarize
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_failures, iter_superseded, iter_trajectories
from tests.reports.viewer.test_pack import content
from tests.support.rows import failure, fill, row


def test_every_reader_counts_the_last_row_of_a_sample(tmp_path: Path):
    run = tmp_path / "run"
    # a: failed, then finished; b: failed twice, for different reasons; c: finished at once.
    fill(run, failure("a"), failure("b", reason="repetition"), row("c"))
    fill(run, row("a"), failure("b", reason="no_score", attempts=2))
    rows = iter_trajectories(run), iter_failures(run), iter_superseded(run)
    summary = summarize(*rows)
    assert summary["samples"] == {"finished": 2, "failed": 1, "attempts": 4}
    assert summary["failures"] == {"no_score": 1}

    head, _ = content(write_report(run).read_text(encoding="utf-8"))
    assert head["summary"] == summary
    assert head["reasons"] == {"no_score": "not scored"}

    figures = collect_figures(iter_trajectories(run), iter_failures(run), iter_superseded(run))
    assert figures.failures == {"no_score": 1}
    assert sorted(sample.seconds for sample in figures.samples) == [0.5, 1.0, 1.0]

    keys = [(name, 0) for name in "abc"]
    samples = read_pilot_samples(RunPaths(run), keys)
    assert {sample.key[0]: sample.reason for sample in samples} == {
        "a": None, "b": "no_score", "c": None,
    }  # fmt: skip
    assert {sample.key[0]: sample.seconds for sample in samples} == {"a": 1.0, "b": 1.0, "c": 0.5}

    export(ExportConfig(run=run, to="hf", out=tmp_path / "card"), Console(file=io.StringIO()))
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert "Not included: 1 failed sample." in card
    assert "| not scored | 1 |" in card
    assert "repetition" not in card
