"""Servers that do not say how much fits, or say so late."""

from types import SimpleNamespace
from typing import cast

from tessy.core.records import Author, Message, Problem
from tessy.inference.base import EngineInfo
from tessy.inference.local.jobs import BATCH_STREAMS
from tessy.inference.pool.pool import ReplicaPool
from tessy.runtime.admission import DEFAULT_CONCURRENCY, KvAdmission
from tessy.synthesis.admission import SampleGate, make_admission
from tessy.synthesis.context import SynthesisContext
from tessy.synthesis.sample import SampleJob
from tessy.synthesis.setup import Options, SynthesisResources
from tests.support.counting_engine import Server, pool_of, until
from tests.support.replicas import healthy


def admit(admission: KvAdmission, index: int, student: str, teacher: str | None) -> bool:
    """Whether a sample gets in whose prompt has one token; without a teacher, a lone student's."""
    homes: dict[Author, str] = {"student": student}
    if teacher is not None:
        homes["teacher"] = teacher
    return admission.try_admit(f"{index}/0", dict.fromkeys(homes, 1), homes)


def admitted(admission: KvAdmission, student: str, teacher: str | None, count: int = 300) -> int:
    """How many of ``count`` such samples get in."""
    tries = range(admission.in_flight, admission.in_flight + count)
    return sum(admit(admission, index, student, teacher) for index in tries)


def test_only_a_server_of_unknown_capacity_has_a_fixed_limit():
    admission = KvAdmission({"s": 10**9, "t": None, "u": 10**9, "v": None}, first_guess_tokens=500)
    assert admitted(admission, "s", "t") == DEFAULT_CONCURRENCY == 32
    assert admitted(admission, "s", "u") == 300
    assert admitted(admission, "s", "v") == 32
    admission.finished("0/0", None)
    assert admit(admission, 0, "s", "t")


def test_a_sample_counts_once_on_a_server_in_both_roles():
    assert admitted(KvAdmission({"s": None}, first_guess_tokens=500), "s", "s") == 32


def test_concurrency_limits_servers_of_unknown_capacity():
    admission = KvAdmission({"s": None}, first_guess_tokens=500, concurrency=200)
    assert admitted(admission, "s", None) == 200


def test_a_capacity_reported_later_takes_effect():
    admission = KvAdmission({"s": 10**9, "t": None}, first_guess_tokens=499)
    assert admitted(admission, "s", "t") == 32
    admission.set_capacity("t", 100_000)
    assert admitted(admission, "s", "t") == 180 - 32  # 90 % of it, at 500 tokens a sample
    admission.set_capacity("t", None)
    assert admitted(admission, "s", "t") == 0
    admission.set_capacity("t", 200_000)
    assert admitted(admission, "s", "t") == 180
    admission.set_capacity("u", 10_000)
    assert admitted(admission, "s", "u") == 18


def test_the_description_names_the_limits():
    def explain(capacities: dict[str, int | None], concurrency: int | None = None) -> str:
        admission = KvAdmission(capacities, first_guess_tokens=1, concurrency=concurrency)
        description = admission.describe()
        admission.set_capacity("t", 2048)
        assert "t 2,048 tokens" in admission.describe()
        assert "unknown: t" not in admission.describe()
        return description

    assert "32 samples per server" in explain({"s": None, "t": None})
    assert "5 samples at a time" in explain({"s": None, "t": None}, 5)
    assert "--concurrency" in explain({"s": None, "t": None})
    some = explain({"s": 65536, "t": None})
    assert "s 65,536 tokens; unknown: t (at most 32 samples each)" in some
    capped = explain({"s": 65536, "t": None}, 5)
    assert "unknown: t)" in capped
    assert capped.endswith("at most 5 samples at a time")


def test_samples_of_a_model_in_this_process_fill_its_batch():
    backend = SimpleNamespace(context_tokens=4096)
    context = cast(SynthesisContext, SimpleNamespace(backends={"student": backend}))
    pool = cast(ReplicaPool, SimpleNamespace(capacities={"s": 10**9}))
    infos: dict[Author, EngineInfo] = {"student": EngineInfo("tiny", "local")}
    resources = SynthesisResources(context, infos, {"student": pool})
    options = cast(Options, SimpleNamespace(thinking_tokens=600, concurrency=None))
    admission = make_admission(options, resources)
    assert admitted(admission, "s", None) == BATCH_STREAMS
    options = cast(Options, SimpleNamespace(thinking_tokens=600, concurrency=7))
    assert admitted(make_admission(options, resources), "s", None) == 7


class Renderers:
    """Backends whose prompts have 10 tokens; counts how often a prompt is rendered."""

    def __init__(self, *roles: Author) -> None:
        self.rendered = 0
        backend = SimpleNamespace(renderer=self)
        self.context = cast(
            SynthesisContext, SimpleNamespace(backends=dict.fromkeys(roles, backend))
        )

    def prompt_ids(self, messages: object) -> list[int]:
        self.rendered += 1
        return [0] * 10


def jobs_of(count: int) -> list[SampleJob]:
    messages = (Message(role="user", content="?"),)
    return [SampleJob(Problem(id=str(index), messages=messages), 0) for index in range(count)]


async def test_a_waiting_sample_is_rendered_once_and_released_at_its_end():
    async with pool_of(Server()) as student:
        renderers = Renderers("student")
        resources = SynthesisResources(renderers.context, infos={}, pools={"student": student})
        admission = KvAdmission({"s0": 1_000}, first_guess_tokens=500)
        gate = SampleGate(admission, resources)
        first, second = jobs_of(2)
        assert gate.try_admit(first)
        assert [gate.try_admit(second) for _ in range(3)] == [False] * 3
        assert renderers.rendered == 2
        assert admission.reserved("s0") == 510
        gate.finished(first, 5)
        assert gate.try_admit(second)
        gate.finished(second, None)
        assert admission.reserved("s0") == 0


async def test_a_run_uses_a_server_that_becomes_available_late():
    servers = [Server(), Server(down=True)]
    async with pool_of(Server()) as student, pool_of(*servers) as teacher:
        await teacher.probe()
        admission = KvAdmission(teacher.capacities, first_guess_tokens=1)
        pools: dict[Author, ReplicaPool] = {"student": student, "teacher": teacher}
        context = Renderers("student", "teacher").context
        gate = SampleGate(admission, SynthesisResources(context, infos={}, pools=pools))
        jobs = jobs_of(20)
        assert all(gate.try_admit(job) for job in jobs[:10])
        assert admission.reserved("s1") == 0
        assert "unknown: s1" in admission.describe()
        servers[1].down = False
        await until(lambda: len(healthy(teacher)) == 2)
        assert all(gate.try_admit(job) for job in jobs[10:])
        assert admission.reserved("s1") > 0
        assert "s1 1,000 tokens" in admission.describe()


def test_the_expected_length_is_the_80th_percentile_of_twenty():
    admission = KvAdmission({"s": 10**9}, first_guess_tokens=7)
    for number in range(20):
        assert admission.expected_tokens == 7
        assert admission.try_admit(str(number), {"student": 1}, {"student": "s"})
        admission.finished(str(number), 100 * (20 - number))
    assert admission.expected_tokens == 1600
