"""Fixtures for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import settings

from tessy.inference.http.engine import HttpEngine
from tests.support.engine_requests import CODEC

# Machines are shared and noisy: no test fails for being slow. In CI the same examples every time.
settings.register_profile("tessy", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("tessy")

# A shell starts background jobs with Ctrl-C ignored, and every process of theirs inherits that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., HttpEngine]]:
    """Makes engines on fake servers, and closes them when the test is over."""
    engines: list[HttpEngine] = []

    def make(url: str, **options: Any) -> HttpEngine:
        engines.append(HttpEngine(url, "tiny", CODEC, **options))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.aclose()
