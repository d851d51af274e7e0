"""Comparison of two trees: this one with itself."""

from __future__ import annotations

import json
import sys

import pytest
from benchmarks.compare_trees import HERE, ROWS, main, table


@pytest.mark.timeout(300)  # a process for each client
def test_a_tree_is_compared_with_itself(tmp_path, capsys):
    file = tmp_path / "found.json"
    window = ["--samples", "3", "--rounds", "1", "--slow-down", "1"]
    window += ["--warm-up", "0.5", "--seconds", "2"]
    environments = ["--python", sys.executable, "--other-python", sys.executable]
    main(["--other", str(HERE), *window, *environments, "--json", str(file)])
    (found,) = json.loads(file.read_text())["rounds"]
    assert set(found) == {"this", "other"}
    for figures in found.values():
        assert figures["kept_tokens_per_s"] > 0
        assert figures["sustained_tokens_per_s"] > 0
        assert figures["client_cpu_us_per_kept"] > 0
        assert (
            0.5 < figures["generated_per_kept"] < 3.0
        )  # requests in flight at both ends of the window count
    assert capsys.readouterr().out.rstrip().endswith(table([found]))


def test_table_has_medians_and_ratios_within_a_round():
    names = [name for name, *_ in ROWS]
    rounds = [
        {"this": dict.fromkeys(names, this), "other": dict.fromkeys(names, other)}
        for this, other in ((1.0, 0.5), (3.0, 1.0), (2.0, 8.0))
    ]
    line = table(rounds).splitlines()[2]
    cells = "2.000 (1.000\u20133.000) | 1.000 (0.500\u20138.000) | 2.00 (0.25\u20133.00)"
    assert line == f"| tax (limit / kept tokens/s) | {cells} |"


def test_a_folder_that_is_not_a_tree_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--other", str(tmp_path)])
    assert "has no benchmarks/clients.py" in capsys.readouterr().err
