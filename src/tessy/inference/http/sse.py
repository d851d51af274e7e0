"""Server-sent events, as far as model servers use them (pure)."""

from __future__ import annotations


class EventSplitter:
    """Cuts a byte stream into the payloads of its complete events.

    Comments (keep-alives) and fields other than ``data`` are skipped; several ``data`` lines of
    one event are joined by newlines, as the standard says (WHATWG HTML, 9.2.6).
    """

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        """Nothing read yet."""
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[bytes]:
        """Payloads of the events that ``received`` completes, in order."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif self._data and line in (b"", b"\r"):
                events.append(b"\n".join(self._data))
                self._data.clear()
        return events

    def finish(self) -> list[bytes]:
        """No more bytes: some servers leave out the last blank line."""
        return self.feed(b"\n\n")
