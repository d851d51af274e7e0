"""HTTP statuses as errors of tessy: which are worth another try, and which are not."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping

from tessy.core.errors import EngineError, EngineMisconfigured, EngineRefused, EngineUnavailable

_SHOWN_CHARS = 200
_LATER = frozenset({408, 409, 425, 429})  # and every 5xx but 501
_NEVER = {
    **dict.fromkeys(
        (301, 302, 303, 307, 308), "give the URL that this one redirects to: {location}"
    ),
    401: "set the API key of this server (its environment variable), or another one",
    402: "the account of this API key cannot pay for requests",
    403: "this API key, or this server's start options, do not allow it",
    404: "check the URL and the model name",
    405: "check the URL: this path does not take such requests",
    410: "check the URL: this path is gone",
    501: "this model or server does not offer it",
}


def status_fault(
    method: str, url: str, status: int, text: str, headers: Mapping[str, str]
) -> EngineError:
    """Return the error for the status of a reply.

    EngineUnavailable for 408, 409, 425, 429 and 5xx; EngineMisconfigured for 401, 402, 403, 404,
    405, 410, 501 and redirects; EngineRefused for the rest. ``headers`` need names in lower case or
    in any case.
    """
    message = f"{method} {url} answered {status}: {shortened(text)}"
    if status in _NEVER:
        advice = _NEVER[status].format(location=_target(headers.get("location")))
        return EngineMisconfigured(f"{message}; {advice}", status=status)
    if is_temporary(status):
        wait = retry_after(headers.get("retry-after"), now=time.time())
        return EngineUnavailable(message, status=status, retry_after_seconds=wait)
    return EngineRefused(message)


def is_temporary(status: int | None) -> bool:
    """Return whether a request with this status may succeed later."""
    return status is not None and (status in _LATER or status >= 500)


def _target(location: str | None) -> str:
    """Return where a redirect leads, without query and credentials."""
    if location is None:
        return "not given"
    scheme, slashes, rest = location.partition("?")[0].rpartition("//")
    host, slash, path = rest.partition("/")
    return scheme + slashes + host.rpartition("@")[2] + slash + path


def shortened(text: str) -> str:
    """Return the first 200 characters of ``text`` on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[:_SHOWN_CHARS] + "…"


def retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds of a ``Retry-After`` header: a number or a date (RFC 9110, 10.2.3).

    ``now`` is in seconds since the epoch. None if the header is absent or unreadable.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
