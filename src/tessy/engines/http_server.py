"""One model server over HTTP: connections, faults, and the reading of replies.

Knows nothing of the wire formats but that events are JSON objects in server-sent events.
"""

from __future__ import annotations

import contextlib
import io
import json
import ssl
import urllib.parse
from collections.abc import Awaitable, Mapping
from typing import Any

import aiohttp

from tessy.engines.base import Tap
from tessy.engines.http_faults import StatusMisconfigured, status_fault
from tessy.engines.http_stream import Connections
from tessy.engines.wire_base import BadReply, Reader
from tessy.errors import (
    ConfigError,
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
_READ_BUFFER_BYTES = 2**20  # a completions server echoes the prompt's ids in one line
_LARGE_BODY_BYTES = 2**20  # above it aiohttp wants a stream, which it sends in pieces


def server_root(url: str) -> str:
    """``url`` without a trailing ``/v1``: the place ``/health`` and ``/metrics`` live.

    Raises:
        ConfigError: Not an http(s) URL.
    """
    parts = urllib.parse.urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{url!r} is no server URL; write it like http://127.0.0.1:8000 (with or without /v1)"
        )
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/")


class ModelServer:
    """One server: its connections, and requests with their faults named.

    Attributes:
        root: Where paths begin, without ``/v1``.
    """

    def __init__(self, url: str, *, api_key: str | None, stall_seconds: float) -> None:
        """Nothing is connected yet.

        Raises:
            ConfigError: ``url`` is not an http(s) URL.
        """
        self.root = server_root(url)
        self._headers = {"Accept-Encoding": "identity"}  # compression would hold events back
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._stall_seconds = stall_seconds
        self._streams = Connections(self.root, self._headers, stall_seconds=stall_seconds)
        self._session: aiohttp.ClientSession | None = None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=connector, read_bufsize=_READ_BUFFER_BYTES
            )
        return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        await self._streams.aclose()
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
            async with self._client().get(url, headers=self._headers, timeout=timeout) as response:
                text = await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
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
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence
        )

        def send() -> Awaitable[aiohttp.ClientResponse]:
            return self._client().post(
                url,
                data=body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body),
                headers={"Content-Type": "application/json", **self._headers, **headers},
                timeout=timeout,
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
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
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
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
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
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        try:
            reply = await self._streams.send(
                path, lines, body, reader=reader, tap=tap, read_seconds=read_seconds
            )
        except OSError as error:  # a timeout is one
            raise _connection_fault("POST", url, error) from error
        except BadReply as error:
            raise UnusableReply(f"{url}: {error}") from error
        except EngineUnavailable as error:
            raise EngineUnavailable(f"{url}: {error}") from error
        except EngineRefused as error:
            raise EngineRefused(f"{url}: {error}") from error
        if reply.status not in (0, 200):
            raise status_fault("POST", url, reply.status, reply.text, reply.headers)
        return reply.streamed


class UnusableReply(EngineUnavailable):
    """A reply that is not what the wire format promises; another try may bring a better one."""


def _connection_fault(method: str, url: str, error: Exception) -> EngineError:
    detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    unfit = aiohttp.InvalidURL | aiohttp.ClientConnectorCertificateError
    if isinstance(error, unfit | ssl.SSLCertVerificationError):
        return EngineMisconfigured(f"{method} {url}: {detail}")
    if isinstance(error, TimeoutError):
        return EngineUnavailable(f"{method} {url}: no answer in time ({detail})")
    return EngineUnavailable(f"{method} {url}: the connection failed ({detail})")
