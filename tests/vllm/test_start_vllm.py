"""Failures of the first requests to real vLLM servers: nothing is lost, every row has ids."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tessy.config.base import RoleConfig
from tessy.inference.http.engine import HttpEngine
from tessy.inference.pool.pool import ReplicaPool
from tessy.lab.bundled import student_path, teacher_path
from tessy.synthesis.setup import load_role_renderer
from tessy.tokenization.families import load_renderer
from tests.support.faulty_proxy import KINDS, faulty_proxy
from tests.support.run_data import read_run
from tests.vllm.servers import Servers
from tests.vllm.test_synthesize_vllm import TESSY, check_rows, finish

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
async def test_one_failure_changes_nothing_that_a_probe_finds(servers: Servers, kind, number):
    codec = load_renderer(student_path()).codec
    infos = []
    with faulty_proxy(servers.student.url, kind, lambda request: request == number) as proxy:
        for url in (servers.student.url, proxy.url):
            async with ReplicaPool([HttpEngine(url, "student", codec)], ["s"]) as pool:
                infos.append(await pool.probe())
    assert infos[0] == infos[1]
    assert infos[0].mode == "generate"


@pytest.mark.parametrize(("student", "teacher"), [("429", "malformed"), ("reset", "500")])
def test_a_run_starts_over_five_failures_and_keeps_its_ids(
    servers: Servers, questions, tmp_path, student, teacher
):
    run = tmp_path / "run"
    with ExitStack() as stack:
        proxies = [
            stack.enter_context(faulty_proxy(server.url, kind, lambda request: request <= 5))
            for server, kind in ((servers.student, student), (servers.teacher_a, teacher))
        ]
        finish([
            TESSY, "synthesize", "--problems", str(questions(8)), "--out", str(run),
            "--student.model", "student", "--student.url", proxies[0].url,
            "--student.tokenizer", str(student_path()),
            "--teacher.model", "teacher", "--teacher.url", proxies[1].url,
            "--teacher.tokenizer", str(teacher_path()),
            "--thinking-tokens", "600", "--answer-tokens", "64", "--concurrency", "8",
        ])  # fmt: skip
        assert [proxy.failed for proxy in proxies] == [5, 5]
    data = read_run(run)
    check_rows(data)
    assert len(data.trajectories) + len(data.failures) == 8
    assert len(data.trajectories) >= 6
    log = (run / "run.log").read_text(encoding="utf-8")
    assert log.count("(generate)") == 2
    assert "failed again and again" not in log


def test_a_served_name_leads_to_the_tokenizer(servers: Servers):
    role = RoleConfig(model="student", url=(servers.student.url,))
    assert load_role_renderer(role, "student").codec.name == str(student_path())
