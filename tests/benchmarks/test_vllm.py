"""Parts of the benchmark against a real vLLM, tested without one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from statistics import mean

import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestServer
from benchmarks.clients import ClientTask, run
from benchmarks.cooperation_client import Plan
from benchmarks.measurement import OpenRequestTimes
from benchmarks.plain_client import run_plain
from benchmarks.server_access import SIDES, HttpServers, VirtualServers
from benchmarks.simulated_pair import PairOptions, SimulatedPair
from benchmarks.virtual_clock import VirtualLoop
from benchmarks.vllm import VllmServers
from benchmarks.word_models import Shape, make_word_model
from benchmarks.words import make_model_folder, words
from benchmarks.workload import Workload, in_flight, problem, starting_point
from transformers import AutoModelForCausalLM

from benchmarks import vllm
from tessy.synthesis.resume import CooperationState, load_state
from tessy.tokenization.families import load_renderer

SMALL = Shape(layers=2, hidden=64, intermediate=96, heads=2, kv_heads=1, vocabulary=2_000)
WORKLOAD = Workload(thinking_tokens=100, answer_tokens=10)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("word-models")
    make_word_model(folder / "student", SMALL, context_tokens=256, dtype="float32")
    make_model_folder(folder / "teacher", preamble=words()[0] + " ")
    return {author: folder / author for author in SIDES}


@pytest.fixture(scope="module")
def renderers(folders):
    return {author: load_renderer(folder) for author, folder in folders.items()}


def test_a_word_model_generates_many_words_and_nothing_else(folders, renderers):
    model = AutoModelForCausalLM.from_pretrained(folders["student"]).eval()
    codec = renderers["student"].codec
    inner = {codec.encode(" " + word)[0] for word in words()}
    prompt = torch.tensor([renderers["student"].prompt_ids(problem(0, 0).messages)] * 8)
    torch.manual_seed(1)
    written = model.generate(
        prompt, do_sample=True, temperature=0.7, top_k=20, top_p=0.8, max_new_tokens=40
    )[:, prompt.shape[1] :]
    assert set(written.flatten().tolist()) <= inner
    assert len({tuple(row) for row in written.tolist()}) == 8
    assert len(set(written.flatten().tolist())) > 60


def test_prompts_of_the_roles_share_no_prefix(renderers):
    messages = problem(0, 0).messages
    student, teacher = (renderers[author].prompt_ids(messages) for author in ("student", "teacher"))
    assert student[0] != teacher[0]
    assert list(teacher[-len(student) :]) == list(student)


def test_samples_start_at_different_lengths(renderers):
    points = [starting_point(index, WORKLOAD, renderers["student"]) for index in range(400)]
    lengths = [sum(len(ids) for _, _, ids in point.spans) for point in points]
    assert mean(lengths) == pytest.approx(WORKLOAD.thinking_tokens, rel=0.2)
    assert len(set(lengths)) > 50
    flight = in_flight(points[0], problem(0, 0), renderers)
    saved = load_state(flight)
    assert saved is not None
    thinking = saved[0].thinking
    assert isinstance(thinking, CooperationState)
    teacher = [i for text in thinking.texts for i in text.teacher_ids]
    assert teacher == renderers["teacher"].codec.encode(points[0].text)


def test_all_clients_start_from_given_contexts(folders):
    workload = Workload(thinking_tokens=0, context_tokens=50)
    plan = Plan(concurrency=3, warm_up_seconds=0.5, seconds=2.0, virtual=True, workload=workload)
    task = ClientTask("ours", plan, folders, teacher_share=0.8, turn_tokens=100)
    limit, cooperation, lock_step = (
        run(replace(task, client=name)) for name in ("plain", "ours", "lock_step")
    )
    assert limit.generated > cooperation.kept > lock_step.kept > 0


class RecordingServers(VirtualServers):
    """Servers that record the prompt's length and the tokens of each request."""

    def __init__(self, renderers):
        super().__init__(SimulatedPair(renderers["student"].codec, PairOptions(slots=400)))
        self.requests = []

    async def complete(self, author, key, prompt, *, max_tokens, ignore_eos=False):
        self.requests.append((len(prompt), max_tokens))
        return await super().complete(
            author, key, prompt, max_tokens=max_tokens, ignore_eos=ignore_eos
        )


@pytest.mark.parametrize("teacher_share", [0.0, 0.76])
def test_plain_decoding_has_contexts_as_long_as_those_of_samples(renderers, teacher_share):
    async def decode() -> RecordingServers:
        servers = RecordingServers(renderers)
        await run_plain(
            servers, renderers, concurrency=400, teacher_share=teacher_share, workload=WORKLOAD,
            warm_up_seconds=0.1, seconds=3.0, turn_tokens=80, in_context=True,
        )  # fmt: skip
        return servers

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        requests = runner.run(decode()).requests
    prompt_tokens = len(renderers["student"].prompt_ids(problem(0, 0).messages))
    expected = prompt_tokens + WORKLOAD.thinking_tokens
    assert mean(prompt for prompt, _ in requests[:400]) == pytest.approx(
        expected, rel=0.03
    )  # the first of each text
    written = sum((prompt + tokens / 2) * tokens for prompt, tokens in requests)
    assert written / sum(tokens for _, tokens in requests) == pytest.approx(expected, rel=0.03)


def test_idle_time_is_without_an_open_request():
    open_requests = OpenRequestTimes()
    open_requests.begin("a", 1.0)
    open_requests.begin("b", 1.0)
    open_requests.end("a", 3.0)
    open_requests.begin("a", 3.5)
    open_requests.begin("a", 4.0)  # prefetched, before the last one has ended
    open_requests.end("a", 5.0)
    open_requests.end("a", 6.0)
    assert open_requests.until(6.0) == (4.5 + 5.0, 0.5)


def test_open_requests_count_up_to_now():
    open_requests = OpenRequestTimes()
    open_requests.begin("a", 1.0)
    assert open_requests.until(3.0) == (2.0, 0.0)
    open_requests.forget("a", 3.0)  # moved to another server with a request open
    open_requests.end("a", 4.0)
    assert open_requests.until(5.0) == (3.0, 1.0)
    open_requests.forget("a", 6.0)
    assert open_requests.until(9.0) == (3.0, 2.0)


METRICS = """\
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 70.0
vllm:iteration_tokens_total_count{engine="0"} 9.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} 4.0
vllm:prefix_cache_queries_total{engine="0"} 1000.0
vllm:prefix_cache_hits_total{engine="0"} 960.0
"""


async def served(metrics: str) -> tuple[TestServer, list[dict[str, object]]]:
    bodies: list[dict[str, object]] = []

    async def generate(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.json_response({"choices": [{"token_ids": [5, 6], "finish_reason": "length"}]})

    async def get_metrics(request: web.Request) -> web.Response:
        return web.Response(text=metrics)

    app = web.Application()
    app.router.add_post("/inference/v1/generate", generate)
    app.router.add_get("/metrics", get_metrics)
    server = TestServer(app)
    await server.start_server()
    return server, bodies


async def test_counters_of_a_real_server_are_read():
    server, bodies = await served(METRICS)
    url = str(server.make_url("")).rstrip("/")
    servers = VllmServers(dict.fromkeys(SIDES, url), os.getsid(0))
    try:
        reply = await servers.complete("student", "k", [1, 2, 3], max_tokens=2, ignore_eos=True)
        assert (reply.tokens, reply.ended) == (2, False)
        assert bodies[0]["token_ids"] == [1, 2, 3]
        assert bodies[0]["sampling_params"]["detokenize"] is False  # type: ignore[index]
        totals, spent = await servers.totals()
    finally:
        await servers.aclose()
        await server.close()
    both = list(totals.values())
    # One server in both roles is counted once.
    assert sum(total.generated for total in both) == 70
    assert sum(total.steps for total in both) == 9
    assert sum(total.prefilled for total in both) == 40
    assert spent["api"] > 0


async def test_a_server_without_counters_is_refused():
    server, _ = await served("vllm:generation_tokens_total 7\n")
    servers = VllmServers(dict.fromkeys(SIDES, str(server.make_url("")).rstrip("/")), os.getsid(0))
    try:
        with pytest.raises(ValueError, match="prefix_cache_hits_total"):
            await servers.totals()
    finally:
        await servers.aclose()
        await server.close()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are assigned on Linux")
def test_the_engine_runs_on_its_own_core():
    child = "import time; print(flush=True); time.sleep(100)  # VLLM"
    named = f"{child!r} + '::EngineCore'"  # split, because the parent's command contains it too
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {named}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # the child runs now
            parts = vllm._processes(process.pid)
            assert sorted(parts.values()) == ["api", "engine"]
            rest = vllm._share_cores(process.pid)
            cores = sorted(os.sched_getaffinity(0))
            assert rest == set(cores[1:] or cores)
            for pid, part in parts.items():
                expected = {cores[0]} if part == "engine" else rest
                assert os.sched_getaffinity(pid) == expected
        finally:
            os.killpg(process.pid, signal.SIGKILL)


async def test_a_request_on_a_closed_connection_is_repeated():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while line := await reader.readline():
            length = 0
            while line != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                line = await reader.readline()
            await reader.readexactly(length)
            if len(connections) == 1 and answered:
                writer.close()  # the second request on the first connection
                return
            answered.append(1)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: 2\r\n\r\n{}")

    connections: list[asyncio.StreamWriter] = []
    answered: list[int] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    servers = HttpServers({"teacher": url, "student": url})
    try:
        for _ in range(2):
            assert await servers.post("teacher", "a", "/x", {}) == {}
    finally:
        await servers.aclose()
        for writer in connections:
            writer.close()
        server.close()
    assert len(connections) == 2
