"""The benchmark against a real vLLM, for a moment: every client runs, every figure is there."""

from __future__ import annotations

import json

import pytest
from benchmarks import bench_cooperation

from tests.vllm.conftest import vllm_python

pytestmark = pytest.mark.vllm


def test_every_figure_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSY_VLLM_PYTHON", str(vllm_python()))
    file = tmp_path / "found.json"
    window = ["--rounds", "1", "--warm-up", "1", "--seconds", "3"]
    bench_cooperation.main(
        ["--servers", "vllm", "--concurrency", "2", *window, "--json", str(file)]
    )
    document = json.loads(file.read_text(encoding="utf-8"))
    assert "layers" in document["servers"]["model"]
    found = document["concurrency"]["2"]
    for name in ("kept_tokens_per_s", "tax", "vs_lockstep", "generated_per_kept",
                 "requests_per_1k_kept", "client_cpu_us_per_kept", "predictor_tokens_per_kept",
                 "peak_rss_mib", "prefilled_per_kept", "step_ms"):  # fmt: skip
        assert found[name] > 0, name
    assert 0 <= found["server_idle"] < 1
    # What a role wrote is in the cache, what the other one wrote is not.
    assert found["prefilled_per_kept"] < 20
