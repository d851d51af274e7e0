"""Servers that do not say how much fits, or say so late."""

from typing import cast

from tessy.core.records import Author, Message, Problem
from tessy.inference.pool.pool import ReplicaPool
from tessy.runtime.admission import DEFAULT_CONCURRENCY, Claim, KvAdmission, KvGate
from tessy.synthesis.admission import starting_replicas
from tessy.synthesis.context import SynthesisContext
from tessy.synthesis.sample import SampleJob
from tessy.synthesis.setup import SynthesisResources
from tests.support.counting_engine import Server, pool_of, until
from tests.support.replicas import healthy


def admit(admission: KvAdmission, index: int, student: str, teacher: str | None) -> bool:
    """Whether a sample gets in whose prompt has one token; without a teacher, a lone student's."""
    homes: dict[Author, str] = {"student": student}
    if teacher is not None:
        homes["teacher"] = teacher
    return admission.try_admit(Claim(f"{index}/0", dict.fromkeys(homes, 1)), homes)


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
        told = admission.describe()
        admission.set_capacity("t", 2048)
        assert "t 2,048 tokens" in admission.describe()
        assert "unknown: t" not in admission.describe()
        return told

    assert "32 samples per server" in explain({"s": None, "t": None})
    assert "5 samples at a time" in explain({"s": None, "t": None}, 5)
    assert "--concurrency" in explain({"s": None, "t": None})
    some = explain({"s": 65536, "t": None})
    assert "s 65,536 tokens; unknown: t (at most 32 samples each)" in some
    capped = explain({"s": 65536, "t": None}, 5)
    assert "unknown: t)" in capped
    assert capped.endswith("at most 5 samples at a time")


def test_the_gate_computes_a_claim_once_and_replicas_at_every_try():
    counted: list[str] = []

    def claim(job: list[str]) -> Claim:
        counted.append(job[0])
        return Claim(job[0], {"student": 100, "teacher": 200})

    homes: dict[str, dict[Author, str]] = {name: {"student": "s", "teacher": "t"} for name in "ab"}
    admission = KvAdmission({"s": 10_000, "t": 1_000, "u": 1_000}, first_guess_tokens=500)
    gate: KvGate[list[str]] = KvGate(admission, claim, lambda job: homes[job[0]])
    first, second = ["a"], ["b"]
    assert gate.try_admit(first)
    assert [gate.try_admit(second) for _ in range(3)] == [False] * 3
    homes["b"] = {
        "student": "s",
        "teacher": "u",
    }  # the teacher it waited for is gone, or another one is back
    assert gate.try_admit(second)
    assert counted == ["a", "b"]
    assert (admission.reserved("t"), admission.reserved("u")) == (700, 700)
    gate.finished(first, 5)
    gate.finished(second, None)
    assert [admission.reserved(name) for name in "stu"] == [0, 0, 0]


async def test_a_run_uses_a_server_that_becomes_available_late():
    servers = [Server(), Server(down=True)]
    async with pool_of(Server()) as student, pool_of(*servers) as teacher:
        await teacher.probe()
        admission = KvAdmission(teacher.capacities, first_guess_tokens=1)
        pools: dict[Author, ReplicaPool] = {"student": student, "teacher": teacher}
        table = SynthesisResources(context=cast(SynthesisContext, None), infos={}, pools=pools)
        asked = (Message(role="user", content="?"),)
        jobs = [SampleJob(Problem(id=str(index), messages=asked), 0) for index in range(10)]
        assert {tuple(starting_replicas(job, table, admission).values()) for job in jobs} == {
            ("s0", "s0")
        }
        assert "unknown: s1" in admission.describe()
        servers[1].down = False
        await until(lambda: len(healthy(teacher)) == 2)
        found = {tuple(starting_replicas(job, table, admission).values()) for job in jobs}
        assert found == {("s0", "s0"), ("s0", "s1")}
        assert "s1 1,000 tokens" in admission.describe()


def test_the_expected_length_is_the_80th_percentile_of_twenty():
    admission = KvAdmission({"s": 10**9}, first_guess_tokens=7)
    for number in range(20):
        assert admission.expected_tokens == 7
        claim = Claim(str(number), {"student": 1})
        assert admission.try_admit(claim, {"student": "s"})
        admission.finished(claim.key, 100 * (20 - number))
    assert admission.expected_tokens == 1600
