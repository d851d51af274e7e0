"""HTTP client of one model server: connections, errors, replies."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import ssl
import struct
from collections.abc import Generator, Mapping
from typing import Any

import aiohttp

from tessy.core.errors import EngineError, EngineMisconfigured, EngineRefused, EngineUnavailable
from tessy.inference.base import ChunkSink, leave_when_closed
from tessy.inference.http.address import environment_proxy, read_address, shown_url
from tessy.inference.http.faults import shortened, status_fault
from tessy.inference.http.reply import FAULTS, deadline, read_whole_reply, stream_reply
from tessy.inference.http.unseen import UnseenTokens
from tessy.inference.http.wires.base import BadReply, EventReader, NoTokenIds, WireReader

_CONNECT_SECONDS = 15.0
_HEALTH_SECONDS = 5.0
# uvicorn (vLLM, SGLang) closes idle connections after 5 s; a request sent just then would fail.
_KEEP_ALIVE_SECONDS = 3.0
_LARGE_BODY_BYTES = 2**20  # above this size aiohttp expects a file object, which it sends in parts
# Closing resets the connection. A graceful close would keep its port for a minute,
# and a hundred samples, which end a thousand streams a second, would run out of ports.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ServerClient:
    """Connections to one server; failures are raised as errors of tessy."""

    def __init__(self, url: str, *, api_key: str | None, stall_seconds: float) -> None:
        """Parse the address; connects on first use. Raises ConfigError if it is unusable."""
        self._address = read_address(url, api_key)
        self.root = self._address.root  # without `/v1` and credentials
        self._proxy = environment_proxy(self.root)
        self._stall_seconds = stall_seconds
        # Not headers of the session: aiohttp sends those to a proxy as well.
        self._headers = {
            "User-Agent": "tessy",  # some gateways require one
            "Accept-Encoding": "identity",  # compression would delay events
        }
        if self._address.authorization is not None:
            self._headers["Authorization"] = self._address.authorization
        self.unseen = UnseenTokens()
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # of the session

    def _client(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS, socket_factory=_new_socket
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self._proxy,
            )
        elif self._loop is not loop:
            raise RuntimeError("these connections belong to another event loop: close them there")
        return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def health(self) -> bool:
        """Return whether the server answers; never raises."""
        for path in ("/health", "/v1/models"):
            with contextlib.suppress(EngineError):
                await self.look_up(path, seconds=_HEALTH_SECONDS)
                return True
        return False

    async def look_up(self, path: str, *, seconds: float = 30.0) -> str:
        """Return the text at ``path``; raises as :func:`status_fault` sorts it."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        url = self.root + path
        try:
            async with self._client().get(
                self._address.url(path), headers=self._headers, timeout=timeout
            ) as response:
                text = await response.text(errors="replace")
        except FAULTS as error:
            raise _connection_fault("GET", url, error) from error
        if response.status != 200:
            raise self._status_fault("GET", url, response, text)
        return text

    async def look_up_json(self, path: str) -> dict[str, Any] | None:
        """Return the JSON object at ``path``; None if the server has no such page.

        Raises as :func:`status_fault` sorts it, and UnusableReply for another page.
        """
        try:
            text = await self.look_up(path)
        except EngineRefused:
            return None
        except EngineMisconfigured as error:
            if error.status in (None, 401, 403):
                raise
            return None
        return self._json_object(self.root + path, text.encode())

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, read_seconds: float = 0.0
    ) -> aiohttp.ClientResponse:
        """Send ``body`` and return the unread reply, which has status 200. The caller closes it.

        ``read_seconds`` is the maximum silence before and during the reply, if above the stall
        limit. Raises as :func:`status_fault` sorts it.
        """
        url = self.root + path
        silence = max(self._stall_seconds, read_seconds)
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=silence)

        async def send() -> aiohttp.ClientResponse:
            # aiohttp has no limit for a server that connects and then does not read the body.
            async with deadline(_CONNECT_SECONDS + silence):
                return await self._client().post(
                    self._address.url(path),
                    data=body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body),
                    headers={"Content-Type": "application/json", **self._headers, **headers},
                    timeout=timeout,
                    allow_redirects=False,  # some redirects turn a POST into a GET
                )

        try:
            try:
                response = await send()
            except aiohttp.ClientConnectorError:
                raise  # it was never connected
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # Most likely an idle connection that the server closed: not a failure, and the
                # next connection is new.
                response = await send()
            if response.status == 200:
                return response
            async with response:
                text = await response.text(errors="replace")
        except FAULTS as error:
            raise _connection_fault("POST", url, error) from error
        raise self._status_fault("POST", url, response, text)

    def _status_fault(
        self, method: str, url: str, response: aiohttp.ClientResponse, text: str
    ) -> EngineError:
        masked = self._address.mask(text)
        return status_fault(method, url, response.status, masked, response.headers)

    def _json_object(self, url: str, content: bytes) -> dict[str, Any]:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UnusableReply(f"{url}: malformed JSON: {self._shown(content)}") from error
        if not isinstance(value, dict):
            raise UnusableReply(f"{url}: not a JSON object: {self._shown(content)}")
        return value

    def _shown(self, content: bytes) -> str:
        text = self._address.mask(content.decode(errors="surrogateescape"))
        return repr(text.encode(errors="surrogateescape")[:200])

    @contextlib.contextmanager
    def masked_errors(self) -> Generator[None, None, None]:
        """Mask what servers repeat of keys and passwords in the errors raised inside."""
        try:
            yield
        except EngineError as error:
            error.args = (self._address.mask(str(error)), *error.args[1:])
            raise

    async def post_for_json(
        self, path: str, body: bytes, headers: Mapping[str, str], *, read_seconds: float = 0.0
    ) -> dict[str, Any]:
        """Send ``body`` as :meth:`post` does and return the JSON object of the reply."""
        url = self.root + path
        async with await self.post(path, body, headers, read_seconds=read_seconds) as response:
            try:
                content = await response.read()
            except FAULTS as error:
                raise _connection_fault("POST", url, error) from error
        return self._json_object(url, content)

    async def generate(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        reader: WireReader,
        sink: ChunkSink,
        read_seconds: float = 0.0,
    ) -> bool:
        """Send ``body`` as :meth:`post` does and deliver the chunks of the reply into ``sink``.

        Closing ``sink`` closes the connection, which ends the generation. Returns whether the reply
        was a stream; raises EngineUnavailable if it breaks off or stalls, and UnusableReply if it
        does not follow the wire format or reports an error.
        """
        url = self.root + path
        response: aiohttp.ClientResponse | None = None
        with leave_when_closed(sink):
            response = await self.post(path, body, headers, read_seconds=read_seconds)
        if response is None:
            return False
        with self.masked_errors():
            try:
                if response.content_type != "text/event-stream":
                    await read_whole_reply(response, EventReader(reader), sink, self.unseen)
                    return False
                silence = max(self._stall_seconds, read_seconds)
                await stream_reply(response, EventReader(reader), sink, silence, self.unseen)
            except FAULTS as error:
                raise _connection_fault("POST", url, error) from error
            except BadReply as error:
                kind = ReplyWithoutIds if isinstance(error, NoTokenIds) else UnusableReply
                raise kind(f"{url}: {error}") from error
            except EngineUnavailable as error:
                raise UnusableReply(f"{url}: {error}", status=error.status) from error
            except EngineRefused as error:
                raise EngineRefused(f"{url}: {error}") from error
            finally:
                response.close()  # nothing is closed if the reply is whole
        return True


class ServerEngine:
    """What the engine and the chat client of one server have in common."""

    def __init__(self, url: str, *, api_key: str | None, stall_seconds: float) -> None:
        self.url = shown_url(url)
        self._server = ServerClient(url, api_key=api_key, stall_seconds=stall_seconds)
        self._probing = asyncio.Lock()

    async def health(self) -> bool:
        """Return whether the server answers just now; never raises."""
        return await self._server.health()

    def release(self, key: str) -> None:
        """No-op: the server manages its cache."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()


class UnusableReply(EngineUnavailable):
    """A reply with status 200 that holds no result; worth another try.

    ``status`` is the code of an error in it.
    """


class ReplyWithoutIds(UnusableReply):
    """A reply of a server that does not return token ids."""


def model_cards(listing: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    """Return the entries of a page ``/v1/models`` by model; None if it has no list."""
    cards = listing.get("data")
    if not isinstance(cards, list):
        return None
    return {str(card.get("id")): card for card in cards if isinstance(card, dict)}


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    new = socket.socket(family, kind, protocol)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return new


def _connection_fault(method: str, url: str, error: Exception) -> EngineError:
    name = type(error).__name__
    if isinstance(error, TimeoutError):
        hidden = isinstance(error, aiohttp.ClientError)  # its text may contain the query
        cause = name if hidden or not str(error) else f"{name}: {error}"
        return EngineUnavailable(f"{method} {url}: no answer in time ({cause})")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return EngineUnavailable(f"{method} {url}: the proxy answered {error.status}")
    if isinstance(error, aiohttp.ClientResponseError):
        return UnusableReply(f"{method} {url}: no HTTP reply ({name}: {shortened(error.message)})")
    detail = f"{name}: {error}" if str(error) else name
    unfit = aiohttp.InvalidURL | aiohttp.ClientConnectorCertificateError
    if isinstance(error, unfit | ssl.SSLCertVerificationError):
        return EngineMisconfigured(f"{method} {url}: {detail}")
    return EngineUnavailable(f"{method} {url}: the connection failed ({detail})")
