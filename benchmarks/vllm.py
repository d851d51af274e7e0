"""A real vLLM server that writes random words, on the CPU unless it finds a GPU.

It plays both roles. The teacher's prompts begin with other words, so that the roles share no cached
prefixes, like two models. On a CPU the engine has the first core, in place of a GPU; the server's
API process, the client and its predictors run on the other cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vllm.servers import VllmServer

from benchmarks.latency import Totals
from benchmarks.server_access import SAMPLING, SIDES, Completion, HttpServers
from benchmarks.simulated_server import MODEL
from benchmarks.text_lengths import Ends
from benchmarks.word_models import Shape, make_word_model
from benchmarks.words import END_THINKING, END_TURN, make_model_folder, words
from benchmarks.workload import Workload, problems, starting_point
from tessy.core.records import Author
from tessy.tokenization.families import load_renderer

TURN_TOKENS = 400  # of plain decoding, of both roles together
CONTEXT_TOKENS = 16_384
# A twentieth of the simulated servers' lengths: on a CPU, attention to a long context is nearly as
# expensive for a prompt token as for a decoded one.
WORKLOAD = Workload(thinking_tokens=650, answer_tokens=50)
DTYPE = "bfloat16"
_OPTIONS = [
    *("--max-model-len", str(CONTEXT_TOKENS)),
    *("--max-num-batched-tokens", str(CONTEXT_TOKENS)),
    *("--dtype", DTYPE),
    *("--logits-processors", "benchmarks.vllm_ends:EndingProcessor"),
]
_ROOT = Path(__file__).parents[1]
_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "4",
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # V2 needs another interface of logits processors
    "PYTHONPATH": str(_ROOT),
}
_COUNTERS = {
    "generated": "vllm:generation_tokens_total",
    "steps": "vllm:iteration_tokens_total_count",
}
_QUERIES, _HITS = "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server.

    Attributes:
        url: URL of the server.
        session: Id of the process session it runs in.
        folders: Tokenizers of both roles.
        cores: Cores for the clients.
        about: Description for the results.
    """

    url: str
    session: int
    folders: dict[Author, Path]
    cores: frozenset[int]
    about: dict[str, Any]

    @property
    def urls(self) -> dict[Author, str]:
        """URLs by role."""
        return dict.fromkeys(SIDES, self.url)


@contextlib.contextmanager
def serving(shape: Shape) -> Generator[Serving, None, None]:
    """Make a model of ``shape``, start the server, and end it with the context.

    Raises:
        FileNotFoundError: There is no environment with vLLM.
        RuntimeError: The server did not come up.
    """
    python = vllm_python()
    with tempfile.TemporaryDirectory(prefix="tessy-bench-vllm-") as name:
        scratch = Path(name)
        folders: dict[Author, Path] = {author: scratch / author for author in SIDES}
        weights = make_word_model(
            folders["student"], shape, context_tokens=CONTEXT_TOKENS, dtype=DTYPE
        )
        make_model_folder(folders["teacher"], preamble=words()[0] + " ")
        _ends(folders["student"]).write(folders["student"])
        server = VllmServer(
            python, MODEL, folders["student"], scratch, MODEL, _OPTIONS, _ENVIRONMENT
        )
        try:
            server.ensure()
            yield Serving(
                url=server.url,
                session=server.pid,
                folders=folders,
                cores=_share_cores(server.pid),
                about=_about(python, shape, weights),
            )
        finally:
            server.kill()


class VllmServers(HttpServers):
    """A real vLLM server in both roles; its slots are unknown."""

    def __init__(self, urls: dict[Author, str], session: int, stop_ids: Sequence[int] = ()) -> None:
        """Use the server at ``urls``, which runs in this process session.

        Args:
            urls: The same one in both roles.
            session: Id of the process session.
            stop_ids: Stop ids of text requests.
        """
        super().__init__(urls, sampling={**SAMPLING, "stop_token_ids": list(stop_ids)})
        self._session_id = session

    async def complete(
        self,
        author: Author,
        key: str,
        prompt: str | Sequence[int],
        *,
        max_tokens: int,
        ignore_eos: bool = False,
    ) -> Completion:
        """Return the complete reply; without text for prompts of ids."""
        if isinstance(prompt, str):
            return await super().complete(
                author, key, prompt, max_tokens=max_tokens, ignore_eos=ignore_eos
            )
        sampling = {**SAMPLING, "max_tokens": max_tokens, "ignore_eos": ignore_eos}
        body = {"token_ids": prompt, "sampling_params": {**sampling, "detokenize": False}}
        reply = await self.post(author, key, "/inference/v1/generate", body)
        choice = reply["choices"][0]
        return Completion("", len(choice["token_ids"]), choice["finish_reason"] == "stop")

    async def totals(self) -> tuple[dict[Author, Totals], dict[str, float]]:
        """Return the server's counters, as the teacher's, and the CPU seconds of its processes."""
        found = await asyncio.to_thread(self._read_metrics)
        return {"teacher": found, "student": Totals()}, _cpu_seconds(self._session_id)

    def _read_metrics(self) -> Totals:
        with urllib.request.urlopen(self.urls["teacher"] + "/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()
        found: defaultdict[str, float] = defaultdict(float)
        for line in lines:
            if line.startswith("vllm:"):
                name, _, value = line.rpartition(" ")
                found[name.partition("{")[0]] += float(value)
        missing = {*_COUNTERS.values(), _QUERIES, _HITS} - found.keys()
        if missing:
            raise ValueError(f"{self.urls['teacher']}/metrics does not report {', '.join(missing)}")
        counted = {field: round(found[name]) for field, name in _COUNTERS.items()}
        return Totals(**counted, prefilled=round(found[_QUERIES] - found[_HITS]))


def fill_cache(served: Serving, concurrency: int) -> None:
    """Fill the server's cache, in both roles, with the texts that all clients start from."""
    renderers = {author: load_renderer(folder) for author, folder in served.folders.items()}
    prompts = []
    for index, problem in zip(range(concurrency), problems(WORKLOAD), strict=False):
        text = starting_point(index, WORKLOAD, renderers["student"]).text
        for author, renderer in renderers.items():
            ids = [*renderer.prompt_ids(problem.messages), *renderer.codec.encode(text)]
            prompts.append((author, problem.id, ids))

    async def read() -> None:
        servers = VllmServers(served.urls, served.session)
        try:
            async with asyncio.TaskGroup() as group:
                for author, key, ids in prompts:
                    group.create_task(servers.complete(author, key, ids, max_tokens=1))
        finally:
            await servers.aclose()

    asyncio.run(read())


def vllm_python() -> Path:
    """Return the interpreter that has vLLM.

    Raises:
        FileNotFoundError: There is no such environment.
    """
    python = Path(os.environ.get("TESSY_VLLM_PYTHON") or _ROOT / ".venv-vllm/bin/python")
    if not python.exists():
        raise FileNotFoundError(
            f"there is no vLLM at {python}; run scripts/vllm-env, or set TESSY_VLLM_PYTHON"
        )
    return python


def _ends(folder: Path) -> Ends:
    control = load_renderer(folder).codec.control
    return Ends(
        end_thinking=control[END_THINKING],
        end_turn=control[END_TURN],
        thinking_tokens=WORKLOAD.thinking_tokens,
        answer_tokens=WORKLOAD.answer_tokens,
    )


def _about(python: Path, shape: Shape, weights: int) -> dict[str, Any]:
    found = python.parents[1].glob("lib/python*/site-packages/vllm*.dist-info")
    return {
        "vllm": [path.name.removesuffix(".dist-info") for path in found],
        "model": f"{weights / 1e6:.1f}M weights, {shape.layers} layers x {shape.hidden}, {DTYPE}",
        "gpus": _gpus(),
        "load_average": os.getloadavg(),
    }


def _gpus() -> list[str]:
    """Return the names of the GPUs."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()


def _share_cores(session: int) -> frozenset[int]:
    """Pin the engine to a core and the API process to the rest, which is returned."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        return frozenset(cores)
    rest = frozenset(cores[1:])
    for process, part in _processes(session).items():
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores[:1] if part == "engine" else rest)
    return rest


def _processes(session: int) -> dict[int, str]:
    """Return the processes of a server: its engine and its API process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(path.name)) == session:
                command = (path / "cmdline").read_bytes()
                engine = b"VLLM::EngineCore" in command or b"VLLM::Worker" in command
                found[int(path.name)] = "engine" if engine else "api"
    return found


def _cpu_seconds(session: int) -> dict[str, float]:
    """Return the CPU seconds of a server's processes."""
    spent: defaultdict[str, float] = defaultdict(float)
    for process, part in _processes(session).items():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            spent[part] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent
