"""Three real vLLM servers for the whole session: a student and two replicas of a teacher."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tessy.lab.bundled import demo_problems, student_path, teacher_path
from tests.vllm.servers import Servers, VllmServer

ROOT = Path(__file__).parents[2]
SECONDS_A_TEST = 240


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exclude the start of the servers, which has its own limit, from the time of a test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(SECONDS_A_TEST, func_only=True))


def vllm_python() -> Path:
    """The interpreter that has vLLM; without one, tests are skipped, or fail in CI."""
    python = Path(os.environ.get("TESSY_VLLM_PYTHON") or ROOT / ".venv-vllm/bin/python")
    if not python.exists():
        reason = f"no vLLM at {python}: run `make test-vllm`, or set TESSY_VLLM_PYTHON"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return python


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers, started in parallel; killed with all their children in the end."""
    python = vllm_python()
    folder = tmp_path_factory.mktemp("vllm")
    servers = Servers(
        student=VllmServer(python, "student", student_path(), folder, "student"),
        teacher_a=VllmServer(python, "teacher", teacher_path(), folder, "teacher-a"),
        teacher_b=VllmServer(python, "teacher", teacher_path(), folder, "teacher-b"),
    )
    try:
        for server in servers.all:
            server.start()
        for server in servers.all:
            server.wait()
        yield servers
    finally:
        for server in servers.all:
            server.kill()


@pytest.fixture
def servers(started: Servers) -> Servers:
    """All servers, running; those that a test has killed are started again for the next one."""
    for server in started.all:
        server.ensure()
    return started


@pytest.fixture
def questions(tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that writes problems that the bundled models can solve."""

    def write(count: int) -> Path:
        path = tmp_path / f"questions-{count}.jsonl"
        rows = [
            {"id": p.id, "prompt": p.messages[0].content, **p.extra}
            for p in demo_problems(count, 1)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
