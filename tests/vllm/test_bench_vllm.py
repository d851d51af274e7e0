"""A short benchmark on a real vLLM: every client runs, and every figure is measured."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Coroutine, Sequence
from statistics import mean
from typing import Any

import pytest
from benchmarks.server_access import Completion
from benchmarks.text_lengths import answer_length
from benchmarks.vllm import VllmServers
from benchmarks.word_models import Shape
from benchmarks.workload import Workload, problems

from benchmarks import bench_cooperation, vllm
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.vllm.conftest import vllm_python

pytestmark = pytest.mark.vllm

Reply = Coroutine[Any, Any, Completion]


@pytest.mark.benchmark
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
    # Text by the same role is in the cache, text by the other one is not.
    assert found["prefilled_per_kept"] < 20


@pytest.mark.benchmark
def test_texts_of_random_words_end(monkeypatch):
    workload = Workload(thinking_tokens=20, answer_tokens=10)
    monkeypatch.setattr(vllm, "WORKLOAD", workload)
    monkeypatch.setenv("TESSY_VLLM_PYTHON", str(vllm_python()))
    shape = Shape(layers=1, hidden=32, intermediate=32, heads=1, kv_heads=1, head_width=32)
    with vllm.serving(shape) as served:
        renderer = load_renderer(served.folders["student"])
        stop_ids = sorted(renderer.thinking_stop_ids | renderer.answer_stop_ids)
        questions = [
            renderer.prompt_ids(one.messages)
            for one, _ in zip(problems(workload), range(60), strict=False)
        ]

        async def ask() -> list[Completion]:
            site = VllmServers(served.urls, served.session, stop_ids)

            def complete(ids: Sequence[int], after: str, *, ignore_eos: bool = False) -> Reply:
                text = decode(renderer.codec, ids) + after
                return site.complete("student", "k", text, max_tokens=300, ignore_eos=ignore_eos)

            # All in one batch, whose slots are reused.
            replies = [complete(ids, "") for ids in questions]
            replies += [complete(ids, "dada</think>\n\n") for ids in questions]
            replies += [complete(ids, "", ignore_eos=True) for ids in questions]
            try:
                return await asyncio.gather(*replies)
            finally:
                await site.aclose()

        replies = asyncio.run(ask())
    thoughts, answers, endless = replies[:60], replies[60:120], replies[120:]
    assert all(reply.ended for reply in thoughts + answers)
    assert 12 < mean(reply.tokens for reply in thoughts) < 30
    keys = [zlib.crc32(repr(list(ids[:40])).encode()) for ids in questions]
    assert [reply.tokens for reply in answers] == [answer_length(key, 10) + 1 for key in keys]
    assert [(reply.tokens, reply.ended) for reply in endless] == [(300, False)] * 60
