"""Address and credentials of a model server, parsed from its URL and API key."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tessy.core.errors import ConfigError

_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
_SECRET_CHARS = 6  # a shorter value of a query is a version


@dataclass(frozen=True, slots=True)
class Address:
    """Parts of a server's URL."""

    root: str  # where paths begin, without `/v1`, credentials and query; can be shown
    query: str  # sent with every request: gateways want an API version there
    authorization: str | None  # header; None: none

    def mask(self, text: str) -> str:
        """Return ``text`` without key, password and query values, which servers may repeat."""
        scheme, _, token = (self.authorization or "").partition(" ")
        secrets = {token}
        if scheme == "Basic":
            secrets.add(base64.b64decode(token).decode().partition(":")[2])
        values = (value for _, value in urllib.parse.parse_qsl(self.query))
        secrets.update(value for value in values if len(value) >= _SECRET_CHARS)
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "…").replace(urllib.parse.quote(secret, safe=""), "…")
        return text

    def url(self, path: str) -> str:
        """Return the URL of ``path``, with the query."""
        return f"{self.root}{path}?{self.query}" if self.query else self.root + path


def read_address(url: str, api_key: str | None = None) -> Address:
    """Parse ``url``, with or without ``/v1``; it may contain ``user:password@``.

    Raises ConfigError for an unusable URL or key, or if both of them authenticate.
    """
    parts = _split(url)
    root = f"{parts.scheme}://{_host_and_port(parts)}{parts.path}"
    root = root.rstrip("/").removesuffix("/v1").rstrip("/")
    authorization = f"Bearer {_checked_key(root, api_key)}" if api_key else None
    if "@" in parts.netloc:
        if authorization is not None:
            raise ConfigError(
                f"{root}: the URL holds a user or a password, and there is an API key as well; "
                "a request can carry one of them only"
            )
        user, password = map(urllib.parse.unquote, (parts.username or "", parts.password or ""))
        authorization = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
    return Address(root, parts.query, authorization)


def read_api_key(option: str, variable: str | None) -> str | None:
    """Return the API key in the environment ``variable``; None without a variable.

    Raises ConfigError, naming ``option``, if it cannot be used. The message shows ``variable`` only
    if it is surely a name, because some users give the key itself.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        named = f"variable {variable}" if _VARIABLE.fullmatch(variable) else "variable it names"
        raise ConfigError(
            f"{option}: the environment {named} is not set; give the name of a variable (not the "
            "key itself) and export it, or leave the option out for a server without keys"
        )
    return _checked_key(f"{option} (the environment variable {variable})", key)


def without_credentials(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a command as its files record them, nested ones included.

    URLs are replaced as by :func:`shown_url`, and a variable of an API key by None if it is not
    set: it may be the key.
    """
    shown: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            value = without_credentials(value)
        elif name == "url" and value:
            value = shown_url(value) if isinstance(value, str) else [*map(shown_url, value)]
        elif name == "api_key_env" and value is not None and value not in os.environ:
            value = None
        shown[name] = value
    return shown


def shown_url(url: str) -> str:
    """Return ``url`` for messages: without user and password, its query as a digest."""
    parts = _split(url)
    query = f"…{hashlib.sha256(parts.query.encode()).hexdigest()[:4]}" if parts.query else ""
    return parts._replace(netloc=_host_and_port(parts), query=query, fragment="").geturl()


def environment_proxy(root: str) -> str | None:
    """Return the proxy that ``http_proxy``, ``https_proxy`` and ``no_proxy`` set for this server.

    None for a server on this machine. As in urllib, ``no_proxy`` lists hosts and domains, not
    address ranges. aiohttp's ``trust_env`` would read the environment for every request.
    """
    parts = urllib.parse.urlsplit(root)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    # With its port, because an entry of no_proxy may name one.
    if not proxy or _is_loopback(host) or urllib.request.proxy_bypass(_host_and_port(parts)):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise ConfigError(
            f"{root}: {parts.scheme}_proxy in the environment is no HTTP proxy; set another one, "
            "or add the server to no_proxy"
        )
    return proxy


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # no port, or no IPv6 address
        usable = False
    if not usable:
        shown = url.rpartition("@")[2].partition("?")[0]  # without password and query
        raise ConfigError(
            f"{shown!r} is not a server URL; write it like http://127.0.0.1:8000 (with or without "
            "/v1)"
        )
    return parts


def _host_and_port(parts: urllib.parse.SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _checked_key(owner: str, api_key: str) -> str:
    key = api_key.strip()
    unfit = [place for place, char in enumerate(key, 1) if not ("!" <= char <= "~")]
    if unfit or not key:
        found = (
            f"character {unfit[0]} of {len(key)} is U+{ord(key[unfit[0] - 1]):04X}"
            if unfit
            else "it is blank"
        )
        raise ConfigError(
            f"{owner}: the API key cannot be sent in a header: {found}; a key has printable ASCII "
            "characters only, without spaces or line breaks"
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
