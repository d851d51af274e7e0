"""What our pages have in common: colours and fonts, and leave to use what a page is made of."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources


def style(page: str) -> str:
    """A page's whole style: colours and fonts, then its own rules."""
    return asset("tessy.viewer", "look.css") + page


def asset(package: str, name: str) -> str:
    """The text of a file in the folder ``assets`` of a package."""
    return resources.files(package).joinpath("assets", name).read_text(encoding="utf-8")


def source(text: str) -> str:
    """The expression of a content security policy that allows exactly ``text``."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
