"""A headless browser for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """Launch an installed browser; without one, skip the test, or fail it in CI."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        message = f"none of {', '.join(PROGRAMS)} is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    # Chromium cannot sandbox processes of root, as in a container.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*QUIET, *sandbox])
        yield browser
        browser.close()


class Watched:
    """A page in its own context; forbidden events are recorded in ``faults``."""

    def __init__(self, browser: Browser, *, width: int = 1280, height: int = 800) -> None:
        self.faults: list[str] = []
        self._context = browser.new_context(viewport={"width": width, "height": height})
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))

    def _requested(self, url: str) -> None:
        if not url.startswith("file:") and url != "data:,":
            self.faults.append(f"request: {url}")

    def open(self, path: Path, fragment: str = "") -> Page:
        """Load the file at ``path``."""
        self.page.goto(path.resolve().as_uri() + fragment)
        return self.page

    def close(self) -> None:
        self._context.close()
        assert self.faults == []
