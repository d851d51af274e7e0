"""The clients of the benchmarks on a virtual clock, and the command lines."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from itertools import groupby, pairwise

import pytest
from benchmarks.clients import ClientTask, run
from benchmarks.cooperation_client import Plan
from benchmarks.measurement import Measured
from benchmarks.plain_client import place_of_turn
from benchmarks.scheduled_predictor import (
    CAPABILITY_TOKENS,
    STYLE_SHARE,
    Oracle,
    ScheduleModel,
    style_after,
)
from benchmarks.table import main as table_of_file
from benchmarks.table import table
from benchmarks.virtual_clock import QueuedPredictor, VirtualLoop, frozen_time
from benchmarks.words import make_model_folder, words
from benchmarks.workload import Workload, in_flight, problem, starting_point

from benchmarks import bench_cooperation, bench_growth, clients, results
from tessy.boundary.base import PredictionRequest
from tessy.boundary.classifier.predictor import TokenClassifierPredictor
from tessy.core.edges import edges
from tessy.core.records import Author
from tessy.synthesis.resume import CooperationState, load_state
from tessy.tokenization.families import load_renderer

WORKLOAD = Workload(thinking_tokens=300, answer_tokens=30)
PLAN = Plan(concurrency=3, warm_up_seconds=0.5, seconds=3.0, virtual=True, workload=WORKLOAD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model_folder(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def renderer(folder):
    return load_renderer(folder)


def text_of(count: int, seed: int = 3) -> str:
    return " ".join(words()[hash((seed, i)) % len(words())] for i in range(count))


def test_spans_have_the_documented_lengths(renderer):
    ids = renderer.codec.encode(text_of(12_000))
    classes = [style_after(ids, end) for end in range(1, len(ids))]
    runs: dict[bool, list[int]] = {True: [], False: []}
    for style, members in groupby(classes):
        runs[style].append(len(list(members)))
    assert sum(classes) / len(classes) == pytest.approx(STYLE_SHARE, rel=0.15)
    assert sum(runs[False]) / len(runs[False]) == pytest.approx(CAPABILITY_TOKENS, rel=0.15)
    assert sum(runs[True]) / len(runs[True]) == pytest.approx(5.9, rel=0.15)


async def test_oracle_and_queue_return_the_same_predictions(renderer):
    text = text_of(700)
    codec = renderer.codec
    queue = TokenClassifierPredictor(ScheduleModel(codec, 0.0), codec, name="schedule")
    oracle = Oracle(renderer.codec)
    bounds = [0, *edges(text)]
    try:
        for first, last in pairwise(range(0, len(bounds), 9)):
            request = PredictionRequest("k", text[: bounds[last]], tuple(bounds[first : last + 1]))
            queued, direct = await queue.predict(request), await oracle.predict(request)
            for unit, other in zip(queued.units, direct.units, strict=True):
                assert unit.first == other.first
            assert queued.next_style == direct.next_style
    finally:
        await queue.aclose()


def test_starting_points_follow_the_schedule(renderer):
    for index in range(20):
        point = starting_point(index, WORKLOAD, renderer)
        ids = renderer.codec.encode(point.text)
        assert ids == [i for _, _, part in point.spans for i in part]
        authors = [author for author, _, part in point.spans for _ in part]
        expected = ["student" if style_after(ids, end) else "teacher" for end in range(1, len(ids))]
        assert authors[1:] == expected
        flight = in_flight(point, problem(index, 0), {"student": renderer, "teacher": renderer})
        saved = load_state(flight)
        assert saved is not None
        state, pieces = saved
        assert isinstance(state.thinking, CooperationState)
        assert "".join(text.text for text in state.thinking.texts) == point.text
        assert pieces == len(flight.pieces)
        assert (state.answer is None) == (point.answered is None)


def test_virtual_time_jumps_unless_frozen():
    async def nap():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(3600)
        with frozen_time():
            await asyncio.to_thread(int)
            assert loop.time() == pytest.approx(3600)
        return loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(nap()) == pytest.approx(3600)


def test_a_queued_predictor_delays_each_batch(renderer):
    async def ask():
        loop = asyncio.get_running_loop()
        predictor = QueuedPredictor(Oracle(renderer.codec), 2.0, max_batch=2, max_wait_seconds=0.5)

        async def one():
            await predictor.predict(PredictionRequest("k", "bada", (4,)))
            return loop.time()

        times = await asyncio.gather(*(one() for _ in range(5)))
        return times, loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        times, _ = runner.run(ask())
    # Two full batches; the third waits for more requests, because the second had several.
    assert times == pytest.approx([2.0, 2.0, 4.0, 4.0, 6.5])


@pytest.fixture(scope="module")
def measured(folder):
    task = ClientTask("ours", PLAN, {"student": folder, "teacher": folder})
    cooperation = run(task)
    plain = run(replace(task, client="plain", teacher_share=cooperation.teacher_share))
    return {
        "ours": cooperation,
        "plain": plain,
        "lock_step": run(replace(task, client="lock_step")),
    }


@pytest.mark.smoke
def test_clients_rank_as_expected(measured):
    cooperation, plain, lock_step = measured["ours"], measured["plain"], measured["lock_step"]
    # On the virtual clock rates do not depend on the load of the machine.
    assert 0 < lock_step.kept < cooperation.kept < plain.generated
    assert cooperation.received <= cooperation.generated
    assert cooperation.kept < cooperation.generated * 1.05
    assert plain.idle_seconds < 0.01 * plain.busy_seconds
    assert lock_step.idle_seconds > cooperation.idle_seconds
    assert 0.4 < cooperation.teacher_share < 0.8


def test_a_run_is_repeatable(folder, measured):
    again = run(ClientTask("ours", PLAN, {"student": folder, "teacher": folder}))
    assert (again.kept, again.requests) == (measured["ours"].kept, measured["ours"].requests)


def test_fixed_drafts_cost_requests_and_tokens(folder, measured):
    plan = replace(PLAN, draft_tokens={"teacher": 10, "student": 5})
    fixed = run(ClientTask("ours", plan, {"student": folder, "teacher": folder}))
    cooperation = measured["ours"]
    assert fixed.kept < cooperation.kept
    assert fixed.requests / fixed.kept > 1.5 * cooperation.requests / cooperation.kept
    assert fixed.generated / fixed.kept > 1.05 * cooperation.generated / cooperation.kept


def test_an_oracle_keeps_more_and_drops_less(folder, measured):
    plan = replace(PLAN, predictor="oracle")
    oracle = run(ClientTask("ours", plan, {"student": folder, "teacher": folder}))
    assert oracle.kept > measured["ours"].kept
    assert (
        oracle.generated - oracle.received <= measured["ours"].generated - measured["ours"].received
    )


def test_figures_and_table(measured):
    summed = results.summary([measured, measured], virtual=True)
    for name in ("kept_tokens_per_s", "tax", "vs_lockstep", "generated_per_kept", "server_idle",
                 "requests_per_1k_kept"):  # fmt: skip
        assert summed[name] > 0
    assert summed["client_cpu_us_per_kept"] is None
    parts = 1 + summed["look_ahead_per_kept"] + summed["in_flight_per_kept"]
    assert summed["generated_per_kept"] == pytest.approx(parts)
    document = json.loads(json.dumps({**results.about("2026-11-23"), "concurrency": {"3": summed}}))
    shown = table(document)
    assert f"| tax (limit / cooperation) | {summed['tax']:.2f} |" in shown
    assert "client CPU" not in shown


def test_busy_cores_cause_a_warning(measured):
    spent = {name: replace(found, server_cpu_seconds={"servers": 0.1}, cpu_seconds=0.1)
             for name, found in measured.items()}  # fmt: skip
    assert results.warnings(measured, simulated=True) == []  # on a virtual clock
    assert results.warnings(spent, simulated=True) == []
    busy = {**spent, "plain": replace(spent["plain"], server_cpu_seconds={"servers": 1000.0})}
    (warning,) = results.warnings(busy, simulated=True)
    assert warning.startswith("plain: ")
    assert "--slow-down" in warning
    assert results.warnings(busy, simulated=False) == []
    shared = {**spent, "ours": replace(spent["ours"], machine_cpu_seconds=1000.0)}
    (warning,) = results.warnings(shared, simulated=False)
    assert warning.startswith("ours: ")
    assert "other work" in warning


def test_a_window_with_stolen_cpu_time_is_measured_again(measured, monkeypatch, capsys):
    stolen = [9.0, 1.0, 5.0]
    plans: list[Plan] = []

    def send(task: ClientTask) -> Measured:
        plans.append(task.plan)
        found: Measured = measured["ours"]
        return replace(found, stolen_cpu_seconds=stolen[len(plans) - 1])

    monkeypatch.setattr(clients, "send", send)
    task = ClientTask("ours", PLAN, {})
    assert clients.send_undisturbed(task).stolen_cpu_seconds == 1.0
    assert len({plan.draw_seed for plan in plans}) == len(plans) == 3
    assert capsys.readouterr().err.count("stolen by the host") == 3
    stolen[:] = [0.0]
    plans.clear()
    clients.send_undisturbed(task)
    assert plans == [PLAN]


def test_texts_start_at_places_of_their_turns_in_proportion_to_time():
    turns: dict[Author, int] = {"teacher": 10, "student": 40}
    seconds: dict[Author, float] = {"teacher": 8.0, "student": 1.0}
    places = [place_of_turn((i + 0.5) / 1200, turns, seconds) for i in range(1200)]
    times = Counter(places)
    assert {times[place] for place in range(10)} == {80}  # 8 of 120 seconds each
    assert {times[place] for place in range(10, 50)} == {10}
    assert set(times) == set(range(50))


def test_options_become_a_plan():
    options = bench_cooperation.parse(["--concurrency", "1", "100", "--predictor-delay-ms", "25"])
    assert options.concurrency == [1, 100]
    assert bench_cooperation._plan(options, 100).predictor_delay_seconds == 0.025
    assert bench_cooperation._plan(options, 100).slow_down == 12.5
    assert [bench_cooperation._plan(options, n).slow_down for n in (1, 8, 16)] == [1, 1, 2]
    assert bench_cooperation._plan(options, 100).warm_up_seconds == 10
    assert bench_cooperation._plan(options, 1000).warm_up_seconds == pytest.approx(100)
    explicit = bench_cooperation.parse(["--warm-up", "3", "--slow-down", "50"])
    assert bench_cooperation._plan(explicit, 1000).warm_up_seconds == 3
    assert bench_cooperation._plan(explicit, 1000).slow_down == 50
    jumping = bench_cooperation.parse(["--virtual"])
    assert bench_cooperation._plan(jumping, 1000).slow_down == 1
    with pytest.raises(SystemExit):
        bench_cooperation.parse(["--virtual", "--servers", "vllm"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--concurrency 0", "'0' is not above 0"),
        ("--rounds 0", "'0' is not above 0"),
        ("--slow-down 0", "'0' is not above 0"),
        ("--seconds nan", "'nan' is not above 0"),
        ("--rounds x", "'x'"),
        ("--json no/such/folder/x.json", "folder"),
        ("--json .", "folder"),
        ("--predictor-delay-ms -1", "'-1' is below 0"),
        ("--servers vllm --slow-down 2", "for simulated servers"),
        ("--servers vllm --virtual", "for simulated servers"),
        ("--shape 8B", "--servers vllm"),
        ("--servers vllm", "no vLLM at no/python"),
    ],
)
def test_invalid_options_are_errors(arguments, message, monkeypatch, capsys):
    monkeypatch.setenv("TESSY_VLLM_PYTHON", "no/python")
    with pytest.raises(SystemExit) as ended:
        bench_cooperation.parse(arguments.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[]", "bench_growth"),
        ('{"context": {}}', "no figures"),
    ],
)
def test_a_file_without_results_is_an_error(text, message, tmp_path, capsys):
    file = tmp_path / "x.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        table_of_file([str(file)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# A process starts, which takes a while on a busy machine.
@pytest.mark.smoke
@pytest.mark.timeout(400)
def test_growth_over_real_sockets(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(clients, "_TRIES", 1)
    file = tmp_path / "growth.json"
    arguments = ["--context", "200", "--samples", "4", "--memory-samples", "0", "--rounds", "1"]
    window = ["--warm-up", "0.2", "--seconds", "1", "--slow-down", "1"]
    bench_growth.main([*arguments, *window, "--json", str(file)])
    printed = capsys.readouterr()
    assert printed.err.count("tessy, 4 samples") == 1
    document = json.loads(file.read_text())
    found = document["context"]["200"]
    low, high = found["spread"]["cpu_us_per_draft"]
    assert 0 < low <= found["cpu_us_per_draft"] <= high
    assert 0 < found["cpu_load"] < 1
    table_of_file([str(file)])
    assert Counter(capsys.readouterr().out.splitlines()) <= Counter(printed.out.splitlines())
