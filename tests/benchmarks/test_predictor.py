import json
import sys

import pytest

from benchmarks import bench_predictor


@pytest.mark.smoke
def test_benchmark_of_predictors_reports_tokens_read(monkeypatch, tmp_path, capsys):
    file = tmp_path / "rows.json"
    options = ["--samples", "2", "--growth", "24", "--rounds", "1", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["bench_predictor", "--size", "2 layers x 96", *options])
    bench_predictor.main()
    rows = {row["reading"]: row for row in json.loads(file.read_text())["rows"]}
    assert rows.keys() == {"incremental", "whole window", "sliding-200"}
    assert rows["incremental"]["read_per_new"] < rows["sliding-200"]["read_per_new"]
    assert rows["incremental"]["speed_ratio"] == [1.0, 1.0, 1.0]
    assert "| whole window |" in capsys.readouterr().out
