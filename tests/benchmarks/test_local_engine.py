import json
import sys

import pytest

from benchmarks import bench_local_engine


@pytest.mark.smoke
def test_benchmark_of_the_local_engine_reports_both_ways_and_runs(monkeypatch, tmp_path, capsys):
    file = tmp_path / "rows.json"
    options = ["--streams", "2", "--tokens", "4", "--rounds", "1", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["bench_local_engine", "--problems", "0", *options])
    bench_local_engine.main()
    rows = {row["way"]: row for row in json.loads(file.read_text())["engine"]}
    assert rows.keys() == {"plain sampler", "in-process engine"}
    assert rows["plain sampler"]["slower"] == [1.0, 1.0, 1.0]
    assert rows["in-process engine"]["tokens_per_cpu_s"][0] > 0
    assert "| 2 | in-process engine |" in capsys.readouterr().out


def test_a_run_is_measured_by_the_tokens_and_cpu_seconds_of_its_process(tmp_path):
    file = tmp_path / "problems.jsonl"
    bench_local_engine.write_problems(file, 2)
    first, both = (bench_local_engine.synthesize(file, "student-only", n) for n in (1, 2))
    assert 0 < first[1] < both[1]
    assert min(first[0], both[0]) > 0
