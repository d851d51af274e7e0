"""Where the head and the body of an HTTP/1.1 reply are in the bytes that come (pure)."""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from tessy.engines.wire_base import BadReply

_HEAD_BYTES = 2**16  # httptools has no limit of its own


class Framing:
    """The reply to one request, as far as it has come.

    Attributes:
        status: Of the reply; 0 before.
        headers: Of the reply, names in lower case, without the trailers.
        headed: The head is whole.
        whole: All of it has come.
        endless: Only the end of the connection is the end of the body.
        between: The last chunk is whole, and nothing has come of the next one.
        keeps: Another request may follow on the connection, once this reply is whole.
    """

    def __init__(self) -> None:
        """Nothing has come."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.headed = self.whole = self.endless = self.between = self.keeps = False
        self._head_bytes = 0
        self._pieces: list[bytes] = []
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # As lenient as aiohttp, which reads the server's other replies.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )

    def feed(self, received: bytes) -> bytes:
        """What of the body is in ``received``.

        Raises:
            BadReply: This is no HTTP/1.1, or its head is too long.
        """
        assert self._parser is not None  # it was not dropped
        try:
            self._parser.feed_data(received)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.whole:
                detail = f"{type(error).__name__}: {error}"
                raise BadReply(f"no HTTP/1.1 reply: {received[:100]!r} ({detail})") from None
            self.keeps = False  # something else follows the reply
        # The parser tells of a chunk once its head is whole: this may be the beginning of one.
        self.between = self.between and received.endswith(b"\r\n")
        if not self.headed:
            self._head_bytes += len(received)
            if self._head_bytes > _HEAD_BYTES:
                raise BadReply(f"the head of the reply exceeds {_HEAD_BYTES} bytes")
            return b""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def drop(self) -> None:
        """Read nothing any more; else this and the parser would keep one another alive."""
        self._parser = None

    # -- called by the parser

    def on_message_begin(self) -> None:
        """A head begins: of the reply, of a 100, or of something that follows the reply."""
        self.keeps = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head, or of the trailers."""
        if not self.headed:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        if self.headed:
            return
        assert self._parser is not None  # it is calling
        status = self._parser.get_status_code()
        if status < 200:  # the head of the reply is still to come
            self.headers = {}
            return
        self.headed, self.status = True, status
        self.keeps = self._parser.should_keep_alive()
        coding = self.headers.get("transfer-encoding", "").lower()
        self.endless = "content-length" not in self.headers and "chunked" not in coding

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self.between = False

    def on_chunk_complete(self) -> None:
        """A chunk is whole."""
        self.between = True

    def on_body(self, body: bytes) -> None:
        """More of the body."""
        if not self.whole:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The reply is whole, or a 100 is."""
        self.whole = self.headed
