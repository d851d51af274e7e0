"""``tessy synthesize --strategy restyle`` as a user runs it, against a real vLLM server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tessy.lab.bundled import student_path
from tessy.synthesis.restyling.thinking import keeps_in_order
from tests.lab.test_demo import TESSY, finish
from tests.support.run_data import read_run
from tests.vllm.servers import Servers

pytestmark = pytest.mark.vllm


def trace(n: int, bought: int) -> dict[str, str]:
    thinking = (
        f"Okay, so let me see. The bags hold 3 * {n + 1} = {bought}.\n\n"
        f"Hmm, then {n} + {bought} = {n + bought} apples. So that is it."
    )
    return {
        "question": f"Ann has {n} apples and buys {n + 1} bags of 3. How many does she have?",
        "answer": f"#### {n + bought}",
        "response": f"<think>\n{thinking}\n</think>\n\nShe has \\boxed{{{n + bought}}} apples.",
    }


def test_a_file_of_traces_in_the_shape_of_gsm8k(servers: Servers, tmp_path: Path):
    rows = [trace(n, 3 * (n + 1)) for n in range(2, 14)]
    traces = tmp_path / "traces.jsonl"
    traces.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    generated = servers.student.metric("vllm:generation_tokens_total")
    prompts = servers.student.metric("vllm:prompt_tokens_total")
    cached = servers.student.metric("vllm:prompt_tokens_cached_total")
    output = finish(
        [
            TESSY, "synthesize", "--strategy", "restyle", "--traces", str(traces),
            "--student.model", "student", "--student.url", servers.student.url,
            "--student.tokenizer", str(student_path()), "--answer-by", "trace",
            "--out", str(tmp_path / "run"), "--concurrency", "4", "--thinking-tokens", "400",
        ]
    )  # fmt: skip
    data = read_run(tmp_path / "run")
    assert len(data.trajectories) == len(rows), output
    for row in data.trajectories:
        n = int(row.messages[0].content.split()[2])
        assert keeps_in_order(row.thinking, [f"3 * {n + 1} = {3 * (n + 1)}.", f"{n} + "])
        assert "boxed" in row.answer
        assert row.restyle is not None
        assert row.restyle.scored_tokens > 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["tokens"]["generated"]["student"] == pytest.approx(
        servers.student.metric("vllm:generation_tokens_total") - generated, rel=0.2
    )
    # The shared prefix of the candidates comes from the cache, for drafts and for scores.
    read = servers.student.metric("vllm:prompt_tokens_total") - prompts
    assert servers.student.metric("vllm:prompt_tokens_cached_total") - cached > 0.3 * read
