"""HTTP replies of every format, and a server that sends one of them in packets of any size."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress

from tessy.inference.base import Chunk, ChunkSink
from tessy.inference.http.client import ServerClient
from tessy.inference.http.wires.vllm_generate import IdsReader
from tests.support.model_server import eventually

FIRST = b'data: {"choices":[{"finish_reason":null,"token_ids":[7, 8]}]}\n\n'
LAST = b'data: {"choices":[{"finish_reason":"length","token_ids":[9]}]}\n\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
WHOLE = [7, 8, 9]


def chunked(*parts: bytes, trailer: bytes = b"") -> bytes:
    body = b"".join(b"%x;x=1\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"transfer-encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailer + b"\r\n"


SHAPES = {
    "chunked": STREAM + chunked(FIRST, LAST),
    "chunks cut anywhere": STREAM + chunked(FIRST[:9], FIRST[9:] + LAST[:3], LAST[3:]),
    "with a trailer": STREAM + chunked(FIRST + LAST, trailer=b"X-Sum: 1\r\n"),
    "after a 100": b"HTTP/1.1 100 Continue\r\n\r\n" + STREAM + chunked(FIRST, LAST),
    "of a length": STREAM + b"Content-Length: %d\r\n\r\n" % len(FIRST + LAST) + FIRST + LAST,
    "up to the end": STREAM + b"\r\n" + FIRST + LAST,
    "HTTP/1.0": STREAM.replace(b"1.1", b"1.0") + b"\r\n" + FIRST + LAST,
}
KEPT = {"chunked", "chunks cut anywhere", "with a trailer", "after a 100", "of a length"}


@asynccontextmanager
async def serving(
    reply: bytes,
    step: int,
    *,
    stay: bool = True,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
):
    """Serve ``reply`` to every request, ``step`` bytes at a time."""
    peers: list[object] = []
    left: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer)
        with suppress(ConnectionError):
            while head := await reader.read(65536):
                assert head.startswith(b"POST /base/x HTTP/1.1\r\nHost: ")
                assert b"\r\nContent-Type: application/json\r\n" in head  # required by vLLM
                for start in range(0, len(reply), step):
                    writer.write(reply[start : start + step])
                    await writer.drain()
                    await asyncio.sleep(0)
                if not stay:
                    break
        writer.close()
        left.append(writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as listening:
        port = listening.sockets[0].getsockname()[1]
        root = f"http{'s' if tls else ''}://{host}:{port}/base"
        server = ServerClient(root, api_key=None, stall_seconds=20.0)
        try:
            yield server, peers
        finally:
            await server.aclose()
            await eventually(lambda: len(left) == len(peers))


async def send(server: ServerClient, body: bytes = b"{}") -> tuple[list[Chunk], bool]:
    """Send a request; return the chunks and whether the reply was streamed."""
    chunks: list[Chunk] = []
    streamed = await server.generate(
        "/x", body, {}, reader=IdsReader(), sink=ChunkSink(chunks.append)
    )
    return chunks, streamed
