"""A vLLM server that runs a boundary predictor as a token-classification pooling model."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "predictor"
_START_SECONDS = 600.0
_OPTIONS = [
    *("--runner", "pooling"),
    *("--host", "127.0.0.1"),
    *("--max-model-len", "1024"),
    *("--dtype", "float32"),
    *("--max-num-batched-tokens", "8192"),
    "--enforce-eager",
    "--disable-uvicorn-access-log",
]
_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def pooling_server(python: Path, checkpoint: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """Run a server while the context lasts.

    Args:
        python: The interpreter that has vLLM.
        checkpoint: The token classifier.
        folder: For its log and caches.

    Yields:
        Its URL, and the id of its process group.

    Raises:
        RuntimeError: It did not come up; with the end of its log.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", *_OPTIONS]
    command += ["--model", str(checkpoint), "--served-model-name", NAME, "--port", str(port)]
    environment = {**os.environ, **_ENVIRONMENT, "VLLM_CACHE_ROOT": str(folder / "cache")}
    log_file = folder / "vllm.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log_file.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"vLLM did not come up:\n{tail}")
            time.sleep(0.5)
        yield url, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def group_cpu_seconds(group: int) -> float:
    """CPU time so far of all processes of a process group (Linux)."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
