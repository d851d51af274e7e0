import pytest

from tessy.inference.local.engine import LocalEngine
from tests.support.tiny_causal import model_of


@pytest.fixture
async def engine():
    served = LocalEngine(model_of("qwen3"), name="tiny")
    yield served
    await served.aclose()
