"""Effects of a URL, an API key and the environment's proxies on requests."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager

import pytest

from tessy.core.errors import ConfigError, EngineMisconfigured, EngineUnavailable
from tessy.inference.chat import ChatEngine
from tessy.inference.http.address import environment_proxy, read_address, shown_url
from tessy.inference.http.client import ServerClient
from tessy.inference.http.engine import HttpEngine
from tests.support.engine_requests import CODEC
from tests.support.http_replies import SHAPES, send

USER_AND_PASSWORD = "Basic " + base64.b64encode("ü@b:p w".encode()).decode()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://h/v1", "http:///v1", "http://h:99999", "http://[1/v1"]
)
def test_an_invalid_url_is_an_error(url):
    with pytest.raises(ConfigError, match="not a server URL"):
        HttpEngine(url, "tiny", CODEC)


def test_the_root_of_a_url():
    assert read_address("http://h:1/v1/").root == read_address(" http://h:1 ").root == "http://h:1"
    assert read_address("https://h/models/a/v1").root == "https://h/models/a"
    assert read_address("https://u:p@h:1/a/v1?b=/v1#c").root == "https://h:1/a"
    assert read_address("http://[::1]:8000/v1").root == "http://[::1]:8000"


def test_credentials_are_never_shown():
    url = "http://me:secret@h:1/v1?key=hidden#x"
    shown = shown_url(url)
    assert shown == HttpEngine(url, "m", CODEC).url == ChatEngine(url, "m").url
    assert shown.startswith("http://h:1/v1?…")
    assert not any(secret in shown for secret in ("me", "secret", "hidden", "key"))
    # Servers that differ only in their query have different names; equal URLs have equal names.
    assert shown_url("http://h:1/v1?key=other") != shown == shown_url("http://h:1/v1?key=hidden")
    assert shown_url("http://h:1/v1") == "http://h:1/v1"
    with pytest.raises(ConfigError) as caught:
        read_address("me:secret@h:1/v1")
    assert "secret" not in str(caught.value)


@asynccontextmanager
async def listening(reply: bytes = SHAPES["HTTP/1.0"]):
    """Serve ``reply`` on a free port; yield the heads of received requests, and the port."""
    heads: list[list[str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as door:
        yield f"127.0.0.1:{door.sockets[0].getsockname()[1]}", heads


@asynccontextmanager
async def server_at(url: str, api_key: str | None = None):
    server = ServerClient(url, api_key=api_key, stall_seconds=5.0)
    try:
        yield server
    finally:
        await server.aclose()


async def test_credentials_and_query_go_with_every_request():
    async with (
        listening() as (place, heads),
        server_at(f"http://%C3%BC%40b:p%20w@{place}/a/v1?api-version=1&b=c%26d") as server,
    ):
        await server.look_up("/v1/models")
        await send(server)
        (await server.post("/v1/y", b"{}", {})).close()
    assert [head[0] for head in heads] == [
        "GET /a/v1/models?api-version=1&b=c%26d HTTP/1.1",
        "POST /a/x?api-version=1&b=c%26d HTTP/1.1",
        "POST /a/v1/y?api-version=1&b=c%26d HTTP/1.1",
    ]
    for head in heads:
        assert f"Host: {place}" in head
        assert f"Authorization: {USER_AND_PASSWORD}" in head


async def test_errors_show_neither_credentials_nor_query():
    refused = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    async with listening(refused) as (place, _):
        url = f"http://me:secret@{place}?key=hidden"
        for wanted in (url, url.replace(place, "127.0.0.1:9")):
            async with server_at(wanted) as server:
                for asking in (server.look_up("/v1/models"), send(server)):
                    with pytest.raises(EngineUnavailable) as caught:
                        await asking
                    assert "secret" not in str(caught.value)
                    assert "hidden" not in str(caught.value)


async def test_a_key_is_sent_as_a_bearer_token_without_surrounding_space():
    async with listening() as (place, heads), server_at(f"http://{place}", " k/3+= \n") as server:
        await send(server)
        await server.look_up("/health")
    assert all("Authorization: Bearer k/3+=" in head for head in heads)
    assert len(heads) == 2


@pytest.mark.parametrize(("key", "found"), [
    ("sek\r\nX-Admin: 1", "character 4 of 15 is U\\+000D"),
    ("sekrät", "character 5 of 6 is U\\+00E4"),
    ("sek ret", "character 4 of 7 is U\\+0020"),
    ("sek\x7f", "character 4 of 4 is U\\+007F"),
    (" \n", "it is blank"),
])  # fmt: skip
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key, found):
    for make in (HttpEngine, ChatEngine):
        values = ("http://h", "m", CODEC) if make is HttpEngine else ("http://h", "m")
        with pytest.raises(ConfigError, match=found) as caught:
            make(*values, api_key=key)
        assert "sek" not in str(caught.value)


def test_a_key_beside_credentials_is_refused():
    with pytest.raises(ConfigError, match="one of them only") as caught:
        read_address("http://me:secret@h", "other")
    assert "secret" not in str(caught.value)
    assert "other" not in str(caught.value).replace("another", "")


async def test_the_error_of_a_redirect_names_its_target():
    location = "https://elsewhere.test/v1/x"
    head = f"HTTP/1.1 307 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    async with listening(head.encode()) as (place, _), server_at(f"http://{place}") as server:
        with pytest.raises(EngineMisconfigured, match=f"redirects to: {location}"):
            await send(server)


# -- proxies -------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets proxies; proxies of the machine are removed."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch.setenv


async def test_the_key_of_a_server_behind_tls_is_not_sent_to_the_proxy(environment):
    async with listening(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n") as (place, heads):
        environment("https_proxy", f"http://{place}")
        async with server_at("https://model.test", "secret") as server:
            with pytest.raises(EngineUnavailable, match="502"):
                await send(server)
    assert heads[0][0] == "CONNECT model.test:443 HTTP/1.1"
    assert "secret" not in str(heads)


async def test_a_proxy_of_the_environment_is_used_for_gets_and_streams(environment):
    async with listening() as (place, heads):
        environment("http_proxy", f"http://a%40b:p%20w@{place}")
        async with server_at("http://me:pw@model.test:81/v1?a=b") as server:
            await server.look_up("/health")
            await send(server)
    own, proxys = (base64.b64encode(pair).decode() for pair in (b"me:pw", b"a@b:p w"))
    assert [head[0] for head in heads] == [
        "GET http://model.test:81/health?a=b HTTP/1.1",
        "POST http://model.test:81/x?a=b HTTP/1.1",
    ]
    for head in heads:
        assert f"Proxy-Authorization: Basic {proxys}" in head
        assert f"Authorization: Basic {own}" in head


def test_which_servers_are_reached_through_a_proxy(environment):
    environment("http_proxy", "proxy.test:3128")
    environment("HTTPS_PROXY", "http://secure.test:1")
    environment("no_proxy", "inside.test, gpu.test:8000")
    assert environment_proxy("http://model.test:1") == "http://proxy.test:3128"
    assert environment_proxy("https://model.test") == "http://secure.test:1"
    for near in ("127.0.0.1:8000", "localhost:8000", "[::1]:1", "a.inside.test", "inside.test:7"):
        assert environment_proxy(f"http://{near}") is None
    assert environment_proxy("http://gpu.test:8000/v1") is None
    assert environment_proxy("http://gpu.test:8001/v1") == "http://proxy.test:3128"


def test_a_proxy_that_is_no_http_proxy_is_an_error(environment):
    environment("http_proxy", "socks5://me:secret@proxy.test:1")
    with pytest.raises(ConfigError, match="http_proxy in the environment") as caught:
        HttpEngine("http://model.test", "m", CODEC)
    assert "secret" not in str(caught.value)
    HttpEngine("http://127.0.0.1:8000", "m", CODEC)


def test_a_url_that_is_refused_is_shown_without_its_query():
    for url in ("127.0.0.1:8000/v1?api-key=QSECRET", "http://a:99999/?api-key=QSECRET"):
        with pytest.raises(ConfigError) as caught:
            read_address(url)
        assert "QSECRET" not in str(caught.value)


def test_what_servers_repeat_of_credentials_is_masked():
    keyed = read_address("http://a?api-key=QSECRET&version=1", "KSECRET")
    assert keyed.mask("Bearer KSECRET, QSECRET, version 1") == "Bearer …, …, version 1"
    assert read_address("http://me:p%40ss@a").mask("p@ss p%40ss") == "… …"
