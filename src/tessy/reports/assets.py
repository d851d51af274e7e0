"""Shared parts of the HTML pages: style, template engine and content security policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tessy.core.formatting import counted
from tessy.runtime.terminal import visible


def asset(package: str, name: str) -> str:
    """Return the text of a file in the ``assets`` folder of a package."""
    return resources.files(package).joinpath("assets", name).read_text(encoding="utf-8")


def render(
    package: str, *, script: str | None = None, styles: Sequence[str] = (), **values: object
) -> str:
    """Render ``page.html.jinja`` of a package, with the shared style and its ``page.css``.

    The ``page.css`` of the packages in ``styles`` precede it.

    Text is escaped, and control characters are shown as symbols or escapes;
    :class:`~markupsafe.Markup` is inserted unchanged. The page may use no other style and script.
    """
    style = asset("tessy.reports.viewer", "look.css")
    style += "".join(asset(each, "page.css") for each in (*styles, package))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.finalize = _displayable
    environment.filters["counted"] = counted
    return environment.from_string(asset(package, "page.html.jinja")).render(
        policy=_policy(style, script), style=Markup(style), script=Markup(script or ""), **values
    )


def _displayable(value: object) -> object:
    if type(value) is not str:
        return value
    return visible(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _policy(style: str, script: str | None) -> str:
    """Return a content security policy that allows only this style and script, and no network."""
    scripts = "" if script is None else f"script-src {_source(script)}; "
    return (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; {scripts}"
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
