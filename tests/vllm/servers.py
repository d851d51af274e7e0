"""Real vLLM servers on the CPU, started in parallel and killed with all their processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 900.0  # three at once take about 70 s on two free cores, and they may be busy
CONTEXT_TOKENS = 4096
BLOCK_TOKENS = 32

_OPTIONS = [
    *("--host", "127.0.0.1"),
    *("--max-model-len", str(CONTEXT_TOKENS)),
    *("--dtype", "float32"),
    *("--block-size", str(BLOCK_TOKENS)),
    *("--generation-config", "vllm"),
    "--enable-scale-out",
    "--enable-prompt-tokens-details",
    # On the CPU, vLLM 0.32 crashes when a seeded request's prompt is read in several steps ("CPU
    # Generator does not use offset"), so no prompt is split.
    "--no-enable-chunked-prefill",
    *("--max-num-batched-tokens", str(CONTEXT_TOKENS)),
    "--enforce-eager",  # compiling takes longer than all the tests
    *("--distributed-executor-backend", "uni"),
    "--disable-uvicorn-access-log",
]
_ENVIRONMENT = {
    # As on one GPU: only without this does vLLM obey "uni" on the CPU. Else the model has a process
    # of its own, which takes time to start, and it and the engine wait for one another by spinning.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else every server sits on the first core
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",  # the first logprobs would wait half a minute for a compiler
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


class VllmServer:
    """One server process and its children.

    Attributes:
        name: Name the model is served under.
        model: Its folder.
        url: Where it listens; stays the same over restarts.
        log: What it printed, all starts together.
    """

    def __init__(
        self,
        python: Path,
        name: str,
        model: Path,
        folder: Path,
        label: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Choose a port without starting the server. Later options take precedence."""
        self.name, self.model = name, model
        self.log = folder / f"{label}.log"
        self._python, self._folder = python, folder
        self._options, self._environment = options, environment or {}
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id, which is also the id of its process group."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start without waiting."""
        command = [str(self._python), "-m", "vllm.entrypoints.openai.api_server", *_OPTIONS]
        command += ["--model", str(self.model), "--served-model-name", self.name]
        command += ["--port", str(self._port), *self._options]
        cache = {"VLLM_CACHE_ROOT": str(self._folder / "cache")}
        environment = {**os.environ, **_ENVIRONMENT, **cache, **self._environment}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until the server is ready.

        Raises:
            RuntimeError: It ended, or did not come up in time; with the end of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-3000:]
                self.kill()
                raise RuntimeError(f"vLLM {'ended' if ended else 'did not come up'}:\n{tail}")
            time.sleep(0.5)

    def kill(self) -> None:
        """Kill the server and its children, as in a crash."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def ensure(self) -> None:
        """Start the server if it is not running, and wait until it is ready."""
        if self._process is None:
            self.start()
        self.wait()

    def restart(self) -> None:
        """Kill the server, start it again on the same port, and wait until it is ready."""
        self.kill()
        self.ensure()

    def metric(self, name: str) -> float:
        """Return the sum of a counter over its labels, e.g. ``vllm:generation_tokens_total``."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=30) as response:
            lines = response.read().decode().splitlines()
        values = [
            line.rsplit(" ", 1)[1] for line in lines if line.startswith((name + "{", name + " "))
        ]
        if not values:
            raise KeyError(f"{self.url}/metrics has no {name}")
        return sum(map(float, values))

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@dataclass(frozen=True)
class Servers:
    """A student and two replicas of one teacher."""

    student: VllmServer
    teacher_a: VllmServer
    teacher_b: VllmServer

    @property
    def all(self) -> tuple[VllmServer, ...]:
        return self.student, self.teacher_a, self.teacher_b


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
