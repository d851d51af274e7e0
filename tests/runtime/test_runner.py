"""The fan-out, its draining, signals, and admission."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.errors import EngineMisconfigured
from tessy.core.records import Author
from tessy.runtime.admission import (
    MAX_FILL,
    MIN_LENGTHS,
    KvAdmission,
    Slots,
)
from tessy.runtime.runner import run_all
from tessy.runtime.stop import Draining, Stop, interruptible

# ---------------------------------------------------------------- the fan-out


async def each(jobs: Iterable[int]) -> AsyncGenerator[int, None]:
    for job in jobs:
        yield job


@given(st.integers(0, 30), st.integers(1, 6))
async def test_every_job_runs_once_within_the_admitted_concurrency(count, slots):
    done: list[int] = []
    busy = most = 0

    async def work(job: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        for _ in range(2 * slots + job % 3):
            await asyncio.sleep(0)
        busy -= 1
        done.append(job)

    await run_all(each(range(count)), work, admission=Slots(slots), stop=Stop())
    assert sorted(done) == list(range(count))
    assert most == min(slots, count)


async def test_jobs_are_taken_when_they_can_start():
    pulled: list[int] = []
    go = asyncio.Event()

    def jobs() -> Iterator[int]:
        for job in range(100):
            pulled.append(job)
            yield job

    async def work(job: int) -> None:
        await go.wait()

    running = asyncio.create_task(run_all(each(jobs()), work, admission=Slots(3), stop=Stop()))
    for _ in range(50):
        await asyncio.sleep(0)
    assert pulled == [0, 1, 2, 3]
    go.set()
    await running
    assert len(pulled) == 100


async def test_an_exception_cancels_the_others_and_is_raised_alone():
    ended: list[int] = []

    async def work(job: int) -> None:
        if job == 2:
            raise EngineMisconfigured("401") from KeyError("cause")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job)

    slots = Slots(5)
    with pytest.raises(EngineMisconfigured, match="401") as caught:
        await run_all(each(range(10)), work, admission=slots, stop=Stop())
    assert isinstance(caught.value.__cause__, KeyError)
    assert sorted(ended) == [0, 1]
    assert [slots.try_admit(None) for _ in range(6)] == [True] * 5 + [False]


async def test_an_exception_of_the_iterable_is_raised():
    def jobs() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    async def work(job: int) -> None:
        await asyncio.Event().wait()

    with pytest.raises(OSError, match="disk"):
        await run_all(each(jobs()), work, admission=Slots(4), stop=Stop())


async def test_draining_starts_no_job_and_ends_at_safe_points():
    stop = Stop()
    steps: list[tuple[int, int]] = []
    finished: list[tuple[int, int | None]] = []

    class Noting(Slots):
        def finished(self, job, tokens, /):
            finished.append((job, tokens))
            super().finished(job, tokens)

    async def work(job: int) -> int:
        for step in range(5):
            stop.check()
            steps.append((job, step))
            if (job, step) == (1, 2):
                stop.request()
            await asyncio.sleep(0)
        return 5

    await run_all(each(range(100)), work, admission=Noting(2), stop=stop)
    assert stop.requested
    assert {job for job, _ in steps} == {0, 1}
    assert (1, 3) not in steps
    assert (1, None) in finished


async def test_a_stop_before_the_start_runs_no_job():
    stop = Stop()
    stop.check()
    stop.request()
    with pytest.raises(Draining):
        stop.check()
    await run_all(each([1]), None, admission=Slots(1), stop=stop)  # type: ignore[arg-type]  # never called


async def test_the_result_of_work_is_passed_to_the_admission():
    admission = KvAdmission({"s": 10_000}, first_guess_tokens=100)

    class Gate:
        def try_admit(self, job: int, /) -> bool:
            return admission.try_admit(str(job), {"student": 10}, {"student": "s"})

        def finished(self, job: int, tokens: int | None, /) -> None:
            admission.finished(str(job), tokens)

    async def work(job: int) -> int:
        return 7

    await run_all(each(range(MIN_LENGTHS)), work, admission=Gate(), stop=Stop())
    assert admission.expected_tokens == 7
    assert admission.in_flight == 0


# ---------------------------------------------------------------- signals

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_requests_a_stop_and_handlers_are_restored(number):
    before = signal.getsignal(number)
    async with interruptible() as stop:
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)
        assert stop.requested
    assert signal.getsignal(number) is before


@needs_signals
def test_the_second_signal_aborts():
    cleaned: list[str] = []

    async def work(job: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(f"job {job}")

    async def main() -> None:
        async with interruptible() as stop:
            loop = asyncio.get_running_loop()
            for delay in (0.01, 0.02):
                loop.call_later(delay, os.kill, os.getpid(), signal.SIGINT)
            try:
                await run_all(each(range(2)), work, admission=Slots(2), stop=stop)
            finally:
                assert stop.requested
                cleaned.append("run")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert sorted(cleaned) == ["job 0", "job 1", "run"]
    assert cleaned[-1] == "run"


async def test_a_cancellation_without_signal_is_raised():
    async def main() -> None:
        async with interruptible():
            await asyncio.Event().wait()

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_handlers_are_installed_outside_the_main_thread():
    before = signal.getsignal(signal.SIGINT)

    async def main() -> bool:
        async with interruptible() as stop:
            return stop.requested

    assert await asyncio.to_thread(lambda: asyncio.run(main())) is False
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------- admission

BOTH = ("s", "t")


def admit(
    admission: KvAdmission,
    key: str,
    student_tokens: int,
    teacher_tokens: int,
    student: str,
    teacher: str | None,
) -> bool:
    """Try a sample with these prompts on these replicas; without a teacher, a lone student's."""
    homes: dict[Author, str] = {"student": student}
    if teacher is not None:
        homes["teacher"] = teacher
    prompts: dict[Author, int] = {"student": student_tokens, "teacher": teacher_tokens}
    return admission.try_admit(key, prompts, homes)


def test_admission_reserves_prompt_and_expected_length_on_both_replicas():
    admission = KvAdmission({"s": 10_000, "t": 2_000}, first_guess_tokens=500)
    assert admit(admission, "a", 100, 200, *BOTH)
    assert (admission.reserved("s"), admission.reserved("t")) == (600, 700)
    assert admit(admission, "b", 100, 200, *BOTH)
    assert not admit(admission, "c", 100, 200, *BOTH)  # 3 × 700 > 1800
    assert admit(admission, "d", 100, 0, "s", None)
    admission.finished("a", None)
    assert admit(admission, "c", 100, 200, *BOTH)
    assert admission.in_flight == 3


def test_a_server_in_both_roles_reserves_both_prompts():
    admission = KvAdmission({"s": 10_000}, first_guess_tokens=500)
    assert admit(admission, "a", 100, 200, "s", "s")
    assert admission.reserved("s") == 1300


def test_a_cache_smaller_than_a_sample_admits_one_at_a_time():
    admission = KvAdmission({"s": 10, "t": 10_000}, first_guess_tokens=500)
    assert admit(admission, "a", 100, 100, *BOTH)
    assert not admit(admission, "b", 100, 100, *BOTH)
    admission.finished("a", 900)
    assert admit(admission, "b", 100, 100, *BOTH)


def test_the_expected_length_follows_observed_lengths():
    admission = KvAdmission({"s": 100_000}, first_guess_tokens=500)
    for index in range(MIN_LENGTHS):
        assert admission.expected_tokens == 500
        admit(admission, str(index), 0, 0, "s", None)
        admission.finished(str(index), 10 * (index + 1))
    assert admission.expected_tokens == 160  # the 16th of 20: 80 % are no longer
    admit(admission, "x", 40, 0, "s", None)
    assert admission.reserved("s") == 200


def test_concurrency_is_an_upper_limit():
    admission = KvAdmission({"s": 10**9}, first_guess_tokens=1, concurrency=2)
    assert [admit(admission, key, 1, 0, "s", None) for key in "abc"] == [True, True, False]


def test_a_moved_sample_moves_its_reservation():
    admission = KvAdmission({"s": 10_000, "t": 2_000, "u": 2_000}, first_guess_tokens=500)
    admit(admission, "a", 100, 200, "s", "t")
    admission.moved("a", "teacher", "u")
    admission.moved("gone", "teacher", "u")
    assert [admission.reserved(name) for name in "stu"] == [600, 0, 700]
    admission.finished("a", None)
    assert [admission.reserved(name) for name in "stu"] == [0, 0, 0]


def test_a_sample_in_flight_is_not_admitted_again():
    admission = KvAdmission({"s": None}, first_guess_tokens=1)
    admit(admission, "a", 1, 1, *BOTH)
    with pytest.raises(ValueError, match="in flight"):
        admit(admission, "a", 1, 1, *BOTH)


replica = st.sampled_from(["s", "t", "u"])
step = st.one_of(
    st.tuples(st.just("admit"), replica, st.none() | replica, st.integers(0, 300)),
    st.tuples(st.just("finish"), st.integers(0, 20), st.none() | st.integers(0, 2000)),
    st.tuples(st.just("move"), st.integers(0, 20), replica),
)


@given(
    st.fixed_dictionaries({name: st.none() | st.integers(1, 5000) for name in "stu"}),
    st.lists(step, max_size=120),
    st.integers(1, 1000),
)
def test_admission_never_overfills_nor_deadlocks_nor_leaks(sizes, steps, guess):
    admission = KvAdmission(sizes, first_guess_tokens=guess)
    alive: list[str] = []
    for number, (what, *args) in enumerate(steps):
        if what == "admit":
            student, teacher, tokens = args
            before = {name: admission.reserved(name) for name in sizes}
            if admit(admission, str(number), tokens, tokens, student, teacher):
                alive.append(str(number))
                for name, size in sizes.items():
                    if size is not None and before[name] > 0 and name in (student, teacher):
                        assert admission.reserved(name) <= MAX_FILL * size
            else:
                assert alive
        elif what == "finish" and alive:
            admission.finished(alive.pop(args[0] % len(alive)), args[1])
        elif what == "move" and alive:
            admission.moved(alive[args[0] % len(alive)], "teacher", args[1])
        assert admission.in_flight == len(alive)
    for key in alive:
        admission.finished(key, None)
    assert [admission.reserved(name) for name in sizes] == [0, 0, 0]


async def test_a_failed_run_restores_the_garbage_collector():
    before = gc.get_threshold(), gc.get_freeze_count()

    async def work(job: int) -> None:
        # Modules and the like are passed over while jobs are in flight.
        assert gc.get_freeze_count() > before[1]
        assert gc.get_threshold()[0] > before[0][0]
        raise EngineMisconfigured("no key")

    with pytest.raises(EngineMisconfigured):
        await run_all(each([1]), work, admission=Slots(1), stop=Stop())
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


async def test_a_run_keeps_garbage_collector_settings_of_its_caller():
    before = gc.get_threshold()

    async def work(job: int) -> None:
        assert gc.get_threshold() == (0, *before[1:])
        assert gc.get_freeze_count() == 0

    gc.set_threshold(0, *before[1:])
    try:
        await run_all(each([1]), work, admission=Slots(1), stop=Stop())
    finally:
        gc.set_threshold(*before)


async def test_concurrent_runs_share_one_garbage_collector_setting():
    before = gc.get_threshold()
    first, second = asyncio.Event(), asyncio.Event()

    async def run(ended: asyncio.Event) -> None:
        async def work(job: int) -> None:
            await ended.wait()

        await run_all(each([1]), work, admission=Slots(1), stop=Stop())

    runs = [asyncio.create_task(run(ended)) for ended in (first, second)]
    for ended, task in zip((first, second), runs, strict=True):
        ended.set()
        await task
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
