"""The tokenizer of a model that its server serves under a name of its own."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from tessy.config.base import RoleConfig
from tessy.core.errors import ModelError
from tessy.inference.http.address import without_credentials
from tessy.synthesis.setup import load_role_renderer
from tests.families.patterns import FAMILIES
from tests.support.model_server import FakeServer, writes


class Renamed(FakeServer):
    """Serves ``root`` as ``mine``; the first ``busy`` requests get 429."""

    root: object = str(FAMILIES / "qwen3")
    busy = 0

    async def _page(self, request: web.Request) -> web.Response:
        if self.busy:
            self.busy -= 1
            return web.Response(status=429, headers={"Retry-After": "1"})
        card = {"id": "mine", "root": self.root, "owned_by": "vllm"}
        return web.json_response({"object": "list", "data": [{"id": "other"}, card]})


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


async def load(url: str, **options: str) -> str:
    role = RoleConfig(model="mine", url=(url,), **options)
    renderer = await asyncio.to_thread(load_role_renderer, role, "student")
    return renderer.codec.name


@pytest.mark.parametrize("busy", [0, 1, 3])
async def test_the_root_of_the_served_name_is_used(busy):
    async with Renamed(writes("a")) as server:
        server.busy = busy
        assert await load(server.url) == server.root
        assert await load(f"{server.url}/v1") == server.root


async def test_a_tokenizer_that_is_named_is_used_instead():
    async with Renamed(writes("a")) as server:
        named = str(FAMILIES / "deepseek_r1")
        assert await load(server.url, tokenizer=named) == named


@pytest.mark.parametrize("root", ["/no/such/folder", "some/where", "mine", None, 7])
async def test_a_root_that_is_not_here_leads_to_the_option(root):
    async with Renamed(writes("a")) as server:
        server.root = root
        with pytest.raises(ModelError, match=r"'mine' was not found.*--student\.tokenizer"):
            await load(server.url)


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "it was not found on the hub"),
        (404, {"X-Error-Code": "EntryNotFound"}, "it was not found on the hub"),
        (503, {}, "the hub did not answer"),
        (None, {}, "the hub did not answer"),
    ],
)
async def test_only_a_hub_that_lacks_the_name_is_said_to_lack_it(
    monkeypatch, status, headers, message
):
    async def hub(request: web.Request) -> web.Response:
        if status is None:
            await asyncio.sleep(10)
        return web.Response(status=status or 200, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hub)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    try:
        async with Renamed(writes("a")) as server:
            server.root = "some/where"
            with pytest.raises(ModelError, match=message):
                await load(server.url)
    finally:
        await runner.cleanup()


async def test_a_server_that_is_not_up_leads_to_the_option():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # not listening
        with pytest.raises(ModelError, match=r"--student\.tokenizer"):
            await load(f"http://127.0.0.1:{free.getsockname()[1]}")


def test_recorded_options_hold_no_secrets(monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-1")
    url = ("http://me:secret@h/v1?key=hidden", "http://h:1")
    role = RoleConfig(model="m", url=url, api_key_env="sk-2")
    options = without_credentials({"student": role.model_dump(mode="json"), "api_key_env": "A_KEY"})
    assert not any(secret in str(options) for secret in ("secret", "hidden", "sk-"))
    assert options["student"]["url"][1] == "http://h:1"
    assert options["api_key_env"] == "A_KEY"
    assert without_credentials({"url": None, "api_key_env": None}) == {
        "url": None,
        "api_key_env": None,
    }
