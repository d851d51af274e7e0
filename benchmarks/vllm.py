"""Two real vLLM servers on the CPU with the bundled tiny models, for ``--servers vllm``."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

from tests.vllm.servers import VllmServer

from benchmarks.sites import SIDES
from tessy.lab.bundled import student_path, teacher_path
from tessy.records import Author

TURN_TOKENS = 200  # of plain decoding; the servers' contexts are short


def folders() -> dict[Author, Path]:
    """The models."""
    return {"student": student_path(), "teacher": teacher_path()}


@contextlib.contextmanager
def serving() -> Generator[dict[Author, str], None, None]:
    """Start both, and end them with the context; their URLs.

    Raises:
        FileNotFoundError: There is no environment with vLLM.
        RuntimeError: A server did not come up.
    """
    root = Path(__file__).parents[1]
    python = Path(os.environ.get("TESSY_VLLM_PYTHON") or root / ".venv-vllm/bin/python")
    if not python.exists():
        raise FileNotFoundError(
            f"there is no vLLM at {python}; run scripts/vllm-env, or set TESSY_VLLM_PYTHON"
        )
    with tempfile.TemporaryDirectory(prefix="tessy-bench-vllm-") as scratch:
        servers = {
            author: VllmServer(python, author, folders()[author], Path(scratch), author)
            for author in SIDES
        }
        try:
            for server in servers.values():
                server.start()
            for server in servers.values():
                server.wait()
            yield {author: server.url for author, server in servers.items()}
        finally:
            for server in servers.values():
                server.kill()
