"""Tokens that a server generates and never sends, between the close of a stream and its abort."""

from __future__ import annotations

PRIOR_TOKENS = 1.0  # per close, before the first comparison: that of the running decoding step
MOST_TOKENS = 64.0  # per close: as many as the longest request of a span
_CATCH_UP = 8  # closes over which a correction is spread


class UnseenTokens:
    """Estimate of the tokens that one server generated and did not send.

    They are never sent, so only the server's own counter of generated tokens measures them. Without
    a counter, each close counts as :data:`PRIOR_TOKENS`.
    """

    def __init__(self) -> None:
        self._received = 0  # tokens received, stop tokens included
        self._received_at_start = 0  # of these, those before the count began
        self._received_at_read = 0  # those before the counter was read
        self._closes = 0
        self._estimated = 0.0  # tokens of all closes since the count began
        self._mean = PRIOR_TOKENS  # per close
        self._missing = 0.0  # tokens that the estimates of earlier closes lack
        self._fraction = 0.0

    def receive(self, tokens: int) -> None:
        """Count tokens that were received."""
        self._received += tokens

    def begin_read(self) -> None:
        """Note that the server's counter is about to be read."""
        self._received_at_read = self._received

    def begin_count(self) -> None:
        """Start a count, at the counter that was just read."""
        self._received_at_start = self._received
        self._closes, self._estimated, self._missing = 0, 0.0, 0.0

    def compare(self, generated: int) -> None:
        """Correct the estimate by the tokens that the server has generated since the count began.

        No other client may use the server. Tokens that arrive while the counter is read are in it
        or not, so it gives two limits; an estimate between them is kept.
        """
        if not self._closes:
            return
        least = generated - (self._received - self._received_at_start)
        most = generated - (self._received_at_read - self._received_at_start)
        possible = self._closes * MOST_TOKENS  # beyond it, a proxy still holds tokens
        expected = min(max(self._estimated, least, 0.0), max(most, 0.0), possible)
        self._missing = expected - self._estimated
        self._mean = expected / self._closes

    def take(self) -> int:
        """Return the estimate for one close; over many, fractions are not lost."""
        share = self._missing / _CATCH_UP
        self._missing -= share
        self._closes += 1
        self._estimated += self._mean + share
        self._fraction += self._mean + share
        whole = max(0, int(self._fraction))
        self._fraction -= whole
        return whole
