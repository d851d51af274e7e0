"""The client of LightCPVerifier, with a server like it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tessy.core.errors import EngineError
from tessy.evaluation.official import light_cp_verifier
from tessy.evaluation.official.light_cp_verifier import submit_and_wait
from tessy.storage.run_reader import EVALUATIONS, iter_rows
from tests.evaluation.test_official import judge, programs
from tests.lab.test_demo import finish
from tests.support.evaluations import judged
from tests.support.listeners import start_listening

REPLIES: dict[str, dict[str, Any]] = {
    "right": {"status": "done", "passed": True, "result": "Accepted"},
    "slow": {"status": "done", "passed": False, "result": "Time Limit Exceeded"},
    "broken": {"status": "error", "error": "compile"},
}


class Verifier:
    """Returns 404, then ``queued``, then the reply that a program names."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, Any]] = []
        self.asked: Counter[int] = Counter()
        self.replies = dict(REPLIES)
        self.url = ""

    async def submit(self, request: web.Request) -> web.Response:
        self.submitted.append(await request.json())
        if self.submitted[-1]["code"] == "refused":
            return web.Response(status=400, text="no such problem")
        return web.json_response({"sid": len(self.submitted) - 1})

    async def result(self, request: web.Request) -> web.Response:
        number = int(request.match_info["sid"])
        self.asked[number] += 1
        if self.asked[number] == 1:
            return web.Response(status=404)
        if self.asked[number] == 2:
            return web.json_response({"status": "queued"})
        return web.json_response(self.replies[self.submitted[number]["code"]])

    async def __aenter__(self) -> Verifier:
        app = web.Application()
        app.router.add_post("/submit", self.submit)
        app.router.add_get("/result/{sid}", self.result)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        listener = await start_listening(self._runner, 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_cp_verifier, "WAIT_SECONDS", 0.01)


def test_programs_are_submitted_and_their_results_change_the_run(tmp_path: Path):
    codes = ("right", "slow", "broken")
    run = programs("unjudged", "unjudged", "unjudged", "correct", benchmark="lcb-pro",
                   directory=tmp_path / "run", codes=codes)  # fmt: skip

    async def submit() -> Verifier:
        async with Verifier() as verifier:
            await asyncio.to_thread(finish, judge(run, "--url", verifier.url))
        return verifier

    verifier = asyncio.run(submit())
    assert verifier.submitted == [
        {"pid": f"p{n}", "lang": "cpp", "code": code} for n, code in enumerate(codes)
    ]
    assert {row.id: (row.outcome, row.rule) for row in iter_rows(run, EVALUATIONS)} == {
        "p0": ("correct", "Accepted"),
        "p1": ("wrong", "Time Limit Exceeded"),
        "p2": ("judge_error", "Judge Failed"),
        "p3": ("correct", ""),
    }


@pytest.mark.parametrize(
    ("code", "reply", "message"),
    [
        ("refused", {}, "status 400: no such problem"),
        ("other", {"status": "done"}, "expected `result` in the reply"),
        ("other", [], "expected a JSON object"),
    ],
)
async def test_a_server_that_fails_changes_nothing(code, reply, message):
    async with Verifier() as verifier:
        verifier.replies["other"] = reply
        with pytest.raises(EngineError, match=message):
            await submit_and_wait(verifier.url, [judged("p", final_answer=code)])


async def test_a_server_without_results_is_given_up(monkeypatch):
    monkeypatch.setattr(light_cp_verifier, "MAX_SILENCE_SECONDS", 0.0)
    async with Verifier() as verifier:
        verifier.replies["other"] = {"status": "queued"}
        rows = [judged("p", final_answer="other")]
        with pytest.raises(EngineError, match=r"returned no result .* and 1 are missing"):
            await submit_and_wait(verifier.url, rows)


def test_a_missing_server_is_an_error_of_servers(tmp_path: Path):
    run = programs("unjudged", benchmark="lcb-pro", directory=tmp_path / "run")
    before = (run / "evaluations.jsonl").read_bytes()
    output = finish(judge(run, "--url", "http://127.0.0.1:9"), code=3)
    assert "cannot be reached" in output
    assert (run / "evaluations.jsonl").read_bytes() == before
