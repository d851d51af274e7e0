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

# Machines are shared and noisy, so hypothesis has no deadline. In CI the examples are the same.
settings.register_profile("tessy", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("tessy")

# A shell starts background jobs with SIGINT ignored, which their child processes inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., HttpEngine]]:
    """Return a function that creates engines on fake servers; they are closed after the test."""
    engines: list[HttpEngine] = []

    def make(url: str, **options: Any) -> HttpEngine:
        engines.append(HttpEngine(url, "tiny", CODEC, **options))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.aclose()
