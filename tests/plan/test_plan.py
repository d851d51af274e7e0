"""Estimates of a plan, compared with simulated files."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from random import Random
from statistics import stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tessy.config.base import RoleConfig
from tessy.config.synthesis import (
    DoctorConfig,
    PlanConfig,
    SynthesisOptions,
    SynthesizeConfig,
    TeacherConfig,
)
from tessy.core.records import Author, Message, Problem, TokenCounts
from tessy.core.statistics import t95
from tessy.plan.estimate import RemainingWork, Scope, failing_share, to_come, wall
from tessy.plan.figures import Plan, PlanInputs, make_plan
from tessy.plan.pilot import Load, PilotSample, draw
from tessy.plan.report import print_plan
from tessy.runtime.admission import KvAdmission
from tessy.runtime.throughput import FULL_SHARE, ThroughputMonitor
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.sample import SampleJob
from tessy.synthesis.token_counts import lengths_of_rows
from tests.support.rows import failure, fill, row

FILES = 200
LEAST_COVERED = 0.85


def problems(count: int) -> list[Problem]:
    return [
        Problem(id=f"q{n}", messages=(Message(role="user", content="?"),)) for n in range(count)
    ]


@pytest.mark.parametrize("cls", [DoctorConfig, PlanConfig])
def test_one_toml_file_works_for_every_command(cls: type[SynthesisOptions]):
    assert set(SynthesizeConfig.model_fields) <= set(cls.model_fields)


# ------------------------------------------------------------------ the draw


def test_a_pilot_is_drawn_from_the_whole_file_and_contains_smaller_ones():
    file = problems(1000)
    small, large = draw(file, 2, 20, 0), draw(file, 2, 60, 0)
    assert len(small) == 20
    assert small < large
    assert {sample for _, sample in large} == {0}
    places = sorted(int(name[1:]) for name, _ in large)
    assert places[0] < 200
    assert places[-1] > 800  # not only the top of the file
    assert draw(file, 2, 20, 1) != small


def test_a_pilot_larger_than_the_file_takes_further_samples():
    assert draw(problems(3), 2, 5, 0) > {("q0", 0), ("q1", 0), ("q2", 0)}
    assert draw(problems(3), 2, 50, 0) == {(f"q{n}", s) for n in range(3) for s in range(2)}


# ------------------------------------------------------------------ intervals


@pytest.mark.parametrize(
    ("count", "rounds", "pilot", "sigma"),
    [
        (2000, 1, 20, 0.5),
        pytest.param(2000, 1, 60, 1.0, marks=pytest.mark.long),
        (500, 4, 20, 0.5),
        (30, 1, 20, 0.5),  # as few remaining as drawn problems
        (8, 20, 40, 0.5),  # every problem has a sample
    ],
)
def test_intervals_cover_the_totals_of_simulated_files(count, rounds, pilot, sigma):
    """Lengths are lognormal, with half of the variance between problems and half within."""
    covered, errors = 0, []
    file = problems(count)
    for number in range(FILES):
        rng = Random(f"{count} {rounds} {pilot} {number}")
        level = {p.id: rng.gauss(8, sigma / math.sqrt(2)) for p in file}
        tokens = {
            (name, sample): math.exp(rng.gauss(mean, sigma / math.sqrt(2)))
            for name, mean in level.items()
            for sample in range(rounds)
        }
        chosen = draw(file, rounds, pilot, number)
        truth = sum(tokens[key] for key in tokens if key not in chosen)
        come = {key for key in tokens if key not in chosen}
        seen = {name for name, _ in chosen}
        scope = Scope(len(come), len({name for name, _ in come}), count - len(seen))
        found = to_come(((key[0], tokens[key]) for key in chosen), scope)
        assert found is not None
        covered += found.low <= truth <= found.high
        errors.append(found.value / truth - 1)
    assert covered / FILES >= LEAST_COVERED
    if count > pilot:
        assert covered < FILES  # an interval that always covers is too wide
    assert abs(sum(errors) / FILES) < 0.05


SEEN = [(f"q{n}", float(value + extra)) for n, value in enumerate([10, 14, 9, 20, 12, 7])
        for extra in (-2, 2)]  # fmt: skip


@pytest.mark.parametrize(
    ("unseen", "units", "more"),
    [
        (4, [10, 14, 9, 20, 12, 7], 10),  # unit: problem
        (0, [value for _, value in SEEN], 23),  # unit: sample
    ],
)
def test_units_are_problems_until_every_problem_has_a_sample(unseen, units, more):
    found = to_come(SEEN, Scope(samples=23, problems=10, unseen=unseen))
    count = len(units)
    reach = t95(count - 1) * stdev(units) * math.sqrt(1 / count + 1 / more)
    assert found == pytest.approx((23 * 12, 23 * (12 - reach), 23 * (12 + reach)))


def test_fewer_than_five_units_give_no_estimate():
    assert to_come(SEEN[:8], Scope(samples=9, problems=9, unseen=9)) is None
    assert to_come(SEEN[:10], Scope(samples=9, problems=9, unseen=9)) is not None
    assert to_come(SEEN[:4], Scope(samples=9, problems=9, unseen=0)) is None
    assert to_come(SEEN[:5], Scope(samples=9, problems=9, unseen=0)) is not None


def schedule(durations: list[float], slots: int) -> float:
    free = [0.0] * slots
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


@pytest.mark.parametrize(
    ("count", "slots", "tolerance"), [(600, 16, 0.05), (600, 40, 0.05), (40, 64, 0.3)]
)
def test_the_wall_clock_interval_covers_a_simulated_schedule(
    count: int, slots: int, tolerance: float
):
    covered, off = 0, []
    for number in range(FILES):
        rng = Random(f"{count} {slots} {number}")
        seconds = [math.exp(rng.gauss(5, 0.5)) for _ in range(count)]
        pilot, rest = seconds[:30], seconds[30:]
        scope = Scope(len(rest), len(rest), len(rest))
        work = to_come(((str(n), value) for n, value in enumerate(pilot)), scope)
        assert work is not None
        found = wall(work, min(slots, len(rest)), max(pilot))
        truth = schedule(rest, min(slots, len(rest)))
        assert found.low <= found.value <= found.high
        covered += found.low <= truth <= found.high
        off.append(found.value / truth - 1)
    assert covered / FILES >= LEAST_COVERED
    assert abs(sum(off) / FILES) < tolerance


def test_the_wall_clock_is_between_full_slots_and_one_sample_more():
    assert wall(RemainingWork(400, 320, 480), 8, 15) == (57.5, 40, 75)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 1e6)), min_size=1, max_size=40),
    st.integers(0, 1000),
    st.integers(0, 5),
)
def test_an_estimate_is_ordered_and_never_negative(values, samples, unseen):
    found = to_come(values, Scope(samples, max(1, samples), unseen))
    units = len({name for name, _ in values}) if unseen else len(values)
    assert (found is None) == (samples > 0 and units < 5)
    if found is not None:
        assert 0 <= found.low <= found.value <= found.high


def test_the_share_of_failures_has_an_interval():
    none = failing_share((f"q{n}", False) for n in range(20))
    assert none is not None
    assert (none.value, none.low) == (0, 0)
    assert 0.1 < none.high < 0.2
    some = failing_share((f"q{n}", n < 5) for n in range(20))
    assert some is not None
    assert some.low < some.value == 0.25 < some.high
    assert failing_share([]) is None
    one_problem = failing_share([("a", True)] * 50)
    assert one_problem is not None
    assert one_problem.low < 0.5  # many samples of one problem count little


# ------------------------------------------------------------------ throughput


def monitored(lengths: list[int], slots: int, speed) -> ThroughputMonitor:
    """Return the monitor of a run where each of n samples gets ``speed(n)`` tokens per second."""
    now = 0.0
    monitor = ThroughputMonitor(len(lengths), clock=lambda: now)
    queue = [(f"s{n}", length) for n, length in enumerate(lengths)]
    remaining: dict[str, float] = {}
    while queue or remaining:
        while queue and len(remaining) < slots:
            name, length = queue.pop(0)
            monitor.started(name)
            remaining[name] = length
        each = min(10.0, *remaining.values())
        now += each / speed(len(remaining))
        for name in list(remaining):
            monitor.drafted("teacher", round(each))
            remaining[name] -= each
            if remaining[name] <= 0:
                del remaining[name]
                monitor.finished(name)
    return monitor


def test_the_pace_is_measured_near_the_most_samples_in_flight():
    rng = Random(3)
    lengths = [10 * rng.randint(2, 40) for _ in range(40)]
    monitor = monitored(lengths, 16, lambda n: 100 / n)  # concurrency brings no speedup
    pace = monitor.pace()
    assert pace is not None
    assert monitor.most_in_flight == 16
    assert FULL_SHARE * 16 <= pace.in_flight <= 16
    # Over the whole pilot samples were faster, because the last ones ran alone.
    assert pace.tokens_per_second == pytest.approx(100 / pace.in_flight, rel=0.02)


def test_the_pace_includes_times_with_three_quarters_of_the_most_in_flight():
    pace = monitored([10, 20, 20, 30], 4, lambda n: 1).pace()
    assert pace is not None
    assert pace.in_flight == pytest.approx((4 + 3) / 2)  # equally long, then one alone


def test_waiting_is_excluded_from_the_pace():
    now = 0.0
    monitor = ThroughputMonitor(1, clock=lambda: now)
    assert monitor.pace() is None
    monitor.started("a")
    now = 2.0
    monitor.drafted("student", 20)
    monitor.waiting("no server")
    now = 500.0
    monitor.waiting(None)
    now = 502.0
    monitor.drafted("student", 20)
    monitor.failed("a", "budget")
    pace = monitor.pace()
    assert pace is not None
    assert pace.tokens_per_second == pytest.approx(10)


# ------------------------------------------------------------------ samples in flight


def probed(directory: Path, count: int, lengths: list[int], **options: Any) -> int:
    """Return how many of ``count`` samples would be in flight on a server with 9,000 tokens."""
    jobs = [SampleJob(problem, 0) for problem in problems(count)]
    written = [
        row(f"q{n}").model_copy(update={"tokens": TokenCounts(student=tokens)})
        for n, tokens in enumerate(lengths)
    ]
    fill(directory, *written, failure("q9999", reason="refused"))
    lengths_so_far = lengths_of_rows(RunPaths(directory))
    admission = KvAdmission(
        {"s": 10_000}, first_guess_tokens=4000, lengths=lengths_so_far, **options
    )
    tries = (
        admission.try_admit(job.name, {"student": 50}, {"student": "s"})
        for job in jobs[len(lengths) :]
    )
    return sum(itertools.takewhile(bool, tries))


def test_the_samples_in_flight_follow_from_the_lengths_of_the_pilot(tmp_path: Path):
    assert probed(tmp_path / "a", 500, [200, 250, 250, 250, 900]) == 9000 // 300
    assert probed(tmp_path / "b", 500, [250] * 5, concurrency=7) == 7
    assert probed(tmp_path / "c", 20, [250] * 5) == 15  # only 15 remain
    assert probed(tmp_path / "d", 500, []) == 9000 // 4050


# ------------------------------------------------------------------ plans


def ended(number: int, reason: str | None = None, seconds=100.0) -> PilotSample:
    return PilotSample(
        key=(f"q{number}", 0), reason=reason, seconds=seconds,
        requests={"student": 10, "teacher": 20},
        kept={"student": 0, "teacher": 0, "answer": 0} if reason
        else {"student": 100, "teacher": 300, "answer": 50},
        generated={"student": 200, "teacher": 400}, size=1000,
    )  # fmt: skip


def inputs_of(rows: list[PilotSample], **more) -> PlanInputs:
    known: dict[str, Any] = {
        "samples": rows, "scope": Scope(80, 80, 80), "slots": 10, "load": Load(10, 9.5, 1.5, 20),
        "wall_seconds": 400.0, "journal_bytes": 5000,
        "drawn": True,
    }  # fmt: skip
    return PlanInputs(**(known | more))


def test_the_figures_of_a_plan():
    plan = make_plan(inputs_of([ended(n, "budget" if n < 2 else None) for n in range(20)]))
    assert plan is not None
    figures = plan.figures
    assert figures["generated.teacher"].so_far == 8000
    assert figures["generated.teacher"].to_come == (32_000, 32_000, 32_000)  # all samples are equal
    assert figures["generated"].whole == 60_000
    assert figures["kept.answer"].so_far == 18 * 50
    assert figures["kept.answer"].to_come.value == pytest.approx(80 * 45)
    assert figures["requests.student"].whole == 1000
    assert figures["bytes"].whole == 100_000
    assert figures["failures"].to_come.value == pytest.approx(8)
    assert plan.reasons == {"budget": 2}
    # 80 samples of 100 s, with a slowdown of 1.5, 10 in flight; half a sample at the end
    assert plan.hours.to_come.value == pytest.approx((1200 + 75) / 3600)
    assert plan.hours.to_come.high == pytest.approx((1200 + 150) / 3600)
    assert plan.hours.so_far == pytest.approx(400 / 3600)
    assert plan.at_most is None
    assert plan.to_json()["hours"]["whole"] == pytest.approx(1675 / 3600, abs=1e-4)


def test_more_in_flight_than_in_the_pilot_is_a_lower_bound():
    plan = make_plan(inputs_of([ended(n) for n in range(20)], slots=40))
    assert plan is not None
    assert plan.hours.to_come.value == pytest.approx((300 + 75) / 3600)
    assert plan.at_most == pytest.approx(
        (12_000 / 9.5 + 75) / 3600
    )  # with the samples in flight of the pilot
    assert plan.journal == 4 * 5000
    few = make_plan(inputs_of([ended(n) for n in range(20)], slots=40, scope=Scope(5, 5, 5)))
    assert few is not None
    assert few.at_most is None  # five remaining samples never fill 40 slots


def test_without_a_measured_load_the_average_of_the_sessions_is_used():
    plan = make_plan(inputs_of([ended(n) for n in range(20)], load=None, slots=5))
    assert plan is not None
    assert plan.hours.to_come.value == pytest.approx((80 * 100 / 5 + 50) / 3600)
    assert plan.at_most is None  # 2000 s of samples in 400 s: 5 in flight
    more = make_plan(inputs_of([ended(n) for n in range(20)], load=None, slots=20))
    assert more is not None
    assert more.at_most == pytest.approx((80 * 100 / 5 + 50) / 3600)


def test_a_plan_needs_five_finished_samples_unless_none_remain():
    assert make_plan(inputs_of([ended(n) for n in range(4)])) is None
    assert make_plan(inputs_of([ended(n) for n in range(5)])) is not None
    few = [ended(n, "budget" if n > 3 else None) for n in range(20)]
    assert make_plan(inputs_of(few)) is None
    plan = make_plan(inputs_of([ended(0)], scope=Scope(0, 0, 0), load=None))
    assert plan is not None
    assert plan.hours.to_come == (0, 0, 0)
    assert plan.figures["generated"].whole == 600


def printed(plan: Plan, names: Mapping[Author, str], width: int) -> str:
    student, teacher = RoleConfig(model="m"), TeacherConfig(model="m")
    config = PlanConfig(problems=Path("q"), out=Path("o"), student=student, teacher=teacher)
    console = Console(width=width, file=StringIO())
    print_plan(plan, config, names, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_large_figures_are_not_truncated_on_a_narrow_terminal():
    rows = [ended(n, seconds=600.0 + 60 * n) for n in range(20)]
    plan = make_plan(inputs_of(rows, scope=Scope(10**6, 10**6, 10**6)))
    assert plan is not None
    output = printed(plan, {"student": "m", "teacher": "m"}, width=80)
    assert "…" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("Kept tokens, teacher")]
    assert line.split("  ")[-1].strip() == "300.0 M"
    for figure in ("6,000", "400.0 M – 400.0 M", "100.0 M"):
        assert figure in output
