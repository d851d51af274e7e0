"""One model server over HTTP: connections, faults, and the reading of replies.

Knows nothing of the wire formats but that events are JSON objects in server-sent events.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Mapping
from typing import Any

import aiohttp

from tessy.engines.base import Tap, left_when_closed
from tessy.engines.http_address import environment_proxy, read_address
from tessy.engines.http_faults import StatusMisconfigured, shortened, status_fault
from tessy.engines.sse import EventSplitter
from tessy.engines.wire_base import BadReply, EventReader, Reader
from tessy.errors import (
    EngineError,
    EngineMisconfigured,
    EngineRefused,
    EngineUnavailable,
)

_CONNECT_SECONDS = 15.0
_LOOK_UP_SECONDS = 30.0  # for the small GET requests
_HEALTH_SECONDS = 5.0
# uvicorn (vLLM, SGLang) closes idle connections after 5 s; a request sent just then would fail.
_KEEP_ALIVE_SECONDS = 3.0
_LARGE_BODY_BYTES = 2**20  # above it aiohttp wants a stream, which it sends in pieces
_DRAIN_SECONDS = 0.25  # for what follows the last tokens of a stream
# Closing resets the connection. Closed in good order, its port would be taken for a minute more,
# and a hundred samples, which end a thousand streams a second, would run out of ports.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_FAULTS = (aiohttp.ClientError, TimeoutError, OSError)


class ModelServer:
    """One server: its connections, and requests with their faults named.

    Attributes:
        root: Where paths begin, without ``/v1`` and credentials.
    """

    def __init__(self, url: str, *, api_key: str | None, stall_seconds: float) -> None:
        """Nothing is connected yet.

        Raises:
            ConfigError: No http(s) URL, a key that cannot be sent, or a proxy that cannot be used.
        """
        self._address = read_address(url, api_key)
        self.root = self._address.root
        self._proxy = environment_proxy(self.root)
        self._stall_seconds = stall_seconds
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # of the session

    def _client(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._loop = loop
            self._session = self._new_session()
        elif self._loop is not loop:
            raise RuntimeError("these connections belong to another event loop: close them there")
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        headers = {
            "User-Agent": "tessy",  # some gateways serve nobody without a name
            "Accept-Encoding": "identity",  # compression would hold events back
        }
        if self._address.authorization is not None:
            headers["Authorization"] = self._address.authorization
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS, socket_factory=_new_socket
            ),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def health(self) -> bool:
        """Whether the server answers just now; never raises."""
        for path in ("/health", "/v1/models"):
            with contextlib.suppress(EngineError):
                await self.look_up(path, seconds=_HEALTH_SECONDS)
                return True
        return False

    async def look_up(self, path: str, *, seconds: float = _LOOK_UP_SECONDS) -> str:
        """The text at ``path``.

        Raises:
            EngineError: As :func:`~tessy.engines.http_faults.status_fault` sorts it.
        """
        timeout = aiohttp.ClientTimeout(total=seconds)
        url = self.root + path
        try:
            async with self._client().get(self._address.url(path), timeout=timeout) as response:
                text = await response.text(errors="replace")
        except _FAULTS as error:
            raise _connection_fault("GET", url, error) from error
        if response.status != 200:
            raise status_fault("GET", url, response.status, text, response.headers)
        return text

    async def look_up_json(self, path: str) -> dict[str, Any] | None:
        """The JSON object at ``path``; None if the server has no such page.

        Raises:
            EngineUnavailable: The server cannot be reached now.
            EngineMisconfigured: It wants another API key.
        """
        try:
            value = json.loads(await self.look_up(path))
        except (EngineRefused, ValueError):
            return None
        except StatusMisconfigured as error:
            if error.status in (401, 403):
                raise
            return None
        return value if isinstance(value, dict) else None

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, read_seconds: float = 0.0
    ) -> aiohttp.ClientResponse:
        """Send ``body``; the reply has status 200 and is unread. The caller closes it.

        Args:
            path: Path below the root.
            body: JSON.
            headers: Further headers.
            read_seconds: Longest silence before the reply begins or goes on; the stall limit if
                that is more.

        Raises:
            EngineError: As :func:`~tessy.engines.http_faults.status_fault` sorts it.
        """
        url = self.root + path
        silence = max(self._stall_seconds, read_seconds)
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=silence)

        def send() -> Awaitable[aiohttp.ClientResponse]:
            return self._client().post(
                self._address.url(path),
                data=body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body),
                headers={"Content-Type": "application/json", **headers},
                timeout=timeout,
                allow_redirects=False,  # some would make a GET of it
            )

        try:
            try:
                response = await send()
            except aiohttp.ClientConnectorError:
                raise  # it was never connected
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # Most likely an idle connection that the server closed while we were busy: that
                # says nothing of the server, and the next one is new.
                response = await send()
            if response.status == 200:
                return response
            async with response:
                text = await response.text(errors="replace")
        except _FAULTS as error:
            raise _connection_fault("POST", url, error) from error
        raise status_fault("POST", url, response.status, text, response.headers)

    async def post_for_json(
        self, path: str, body: bytes, headers: Mapping[str, str], *, read_seconds: float
    ) -> dict[str, Any]:
        """Send ``body`` as :meth:`post` does; the JSON object that comes back.

        Raises:
            EngineError: As :meth:`post`; EngineUnavailable too if the reply breaks off, stalls or
                is no JSON object.
        """
        url = self.root + path
        async with await self.post(path, body, headers, read_seconds=read_seconds) as response:
            try:
                content = await response.read()
            except _FAULTS as error:
                raise _connection_fault("POST", url, error) from error
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UnusableReply(f"{url}: malformed JSON: {content[:200]!r}") from error
        if not isinstance(value, dict):
            raise UnusableReply(f"{url}: not a JSON object: {content[:200]!r}")
        return value

    async def generate(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        reader: Reader,
        tap: Tap,
        read_seconds: float = 0.0,
    ) -> bool:
        """Send ``body`` and hand the chunks of the reply on; whether it came as a stream.

        Closing ``tap`` closes the connection, which ends the generation.

        Args:
            path: Path below the root.
            body: JSON.
            headers: Further headers.
            reader: Reads the events of the reply.
            tap: Where the chunks go; the last one has ``finish`` set.
            read_seconds: Longest silence; the stall limit if that is more.

        Raises:
            EngineUnavailable: The reply broke off, stalled, or is not what was asked for.
            EngineError: As :func:`~tessy.engines.http_faults.status_fault` sorts it, or what the
                server says in mid-stream.
        """
        url = self.root + path
        response: aiohttp.ClientResponse | None = None
        with left_when_closed(tap):
            response = await self.post(path, body, headers, read_seconds=read_seconds)
        if response is None:
            return False
        try:
            if response.content_type != "text/event-stream":
                _put_whole(await response.read(), EventReader(reader), tap)
                return False
            await _put_stream(response, EventReader(reader), tap)
        except _FAULTS as error:
            raise _connection_fault("POST", url, error) from error
        except BadReply as error:
            raise UnusableReply(f"{url}: {error}") from error
        except EngineUnavailable as error:
            raise EngineUnavailable(f"{url}: {error}") from error
        except EngineRefused as error:
            raise EngineRefused(f"{url}: {error}") from error
        finally:
            response.close()  # nothing is closed if the reply is whole
        return True


class UnusableReply(EngineUnavailable):
    """A reply that is not what the wire format promises; another try may bring a better one."""


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    new = socket.socket(family, kind, protocol)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return new


async def _put_stream(response: aiohttp.ClientResponse, reader: EventReader, tap: Tap) -> None:
    """Give what arrives to ``tap``, each time all there is, until the last token or its closing."""

    def abort() -> None:
        connection = response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # whoever waits for more is told that it ended

    content, splitter, finish = response.content, EventSplitter(), None
    tap.on_close = abort
    try:
        while finish is None and not tap.closed:
            received = await content.readany()
            chunk = reader.read(splitter.feed(received) if received else splitter.finish())
            finish = chunk.finish
            if chunk.ids or finish is not None:
                tap.put(chunk)
            elif not received and not tap.closed:
                raise EngineUnavailable("the reply ended without a finish reason")
    except aiohttp.ClientError:
        if not tap.closed:
            raise
    finally:
        tap.on_close = None
    if not tap.closed and not content.is_eof():
        await _drain(content)


async def _drain(content: aiohttp.StreamReader) -> None:
    """Wait a little for the end of a reply, so that its connection can be used again."""
    with contextlib.suppress(*_FAULTS):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await content.readany():
                pass


def _put_whole(body: bytes, reader: EventReader, tap: Tap) -> None:
    chunk = reader.read([body])
    if chunk.finish is None:
        raise EngineUnavailable("the reply ended without a finish reason")
    tap.put(chunk)


def _connection_fault(method: str, url: str, error: Exception) -> EngineError:
    name = type(error).__name__
    if isinstance(error, TimeoutError):  # aiohttp's may show the query
        return EngineUnavailable(f"{method} {url}: no answer in time ({name})")
    if isinstance(error, aiohttp.ClientResponseError):
        return UnusableReply(f"{method} {url}: no HTTP reply ({name}: {shortened(error.message)})")
    detail = f"{name}: {error}" if str(error) else name
    unfit = aiohttp.InvalidURL | aiohttp.ClientConnectorCertificateError
    if isinstance(error, unfit | ssl.SSLCertVerificationError):
        return EngineMisconfigured(f"{method} {url}: {detail}")
    return EngineUnavailable(f"{method} {url}: the connection failed ({detail})")
