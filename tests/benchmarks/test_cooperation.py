"""The clients of the benchmarks, on a clock that jumps."""

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
from benchmarks.virtual_clock import QueuedPredictor, VirtualLoop, held
from benchmarks.words import make_model_folder, words
from benchmarks.workload import Workload, in_flight, problem, start

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


def test_spans_are_as_long_as_they_should_be(renderer):
    ids = renderer.codec.encode(text_of(12_000))
    classes = [style_after(ids, end) for end in range(1, len(ids))]
    runs: dict[bool, list[int]] = {True: [], False: []}
    for style, members in groupby(classes):
        runs[style].append(len(list(members)))
    assert sum(classes) / len(classes) == pytest.approx(STYLE_SHARE, rel=0.15)
    assert sum(runs[False]) / len(runs[False]) == pytest.approx(CAPABILITY_TOKENS, rel=0.15)
    assert sum(runs[True]) / len(runs[True]) == pytest.approx(5.9, rel=0.15)


async def test_the_oracle_says_what_the_queue_says(renderer):
    text = text_of(700)
    codec = renderer.codec
    queue = TokenClassifierPredictor(ScheduleModel(codec, 0.0), codec, name="schedule")
    oracle = Oracle(renderer.codec)
    bounds = [0, *edges(text)]
    try:
        for first, last in pairwise(range(0, len(bounds), 9)):
            view = PredictionRequest("k", text[: bounds[last]], tuple(bounds[first : last + 1]))
            said, known = await queue.predict(view), await oracle.predict(view)
            for one, other in zip(said.units, known.units, strict=True):
                assert one.first == other.first
            assert said.next_style == known.next_style
    finally:
        await queue.aclose()


def test_samples_start_where_the_schedule_says(renderer):
    for index in range(20):
        begun = start(index, WORKLOAD, renderer)
        ids = renderer.codec.encode(begun.text)
        assert ids == [i for _, _, part in begun.spans for i in part]
        authors = [author for author, _, part in begun.spans for _ in part]
        said = ["student" if style_after(ids, end) else "teacher" for end in range(1, len(ids))]
        assert authors[1:] == said
        flight = in_flight(begun, problem(index, 0), {"student": renderer, "teacher": renderer})
        saved = load_state(flight)
        assert saved is not None
        state, pieces = saved
        assert isinstance(state.thinking, CooperationState)
        assert "".join(text.text for text in state.thinking.texts) == begun.text
        assert pieces == len(flight.pieces)
        assert (state.answer is None) == (begun.answered is None)


def test_time_jumps():
    async def nap():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(3600)
        with held():
            await asyncio.to_thread(int)
            assert loop.time() == pytest.approx(3600)
        return loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(nap()) == pytest.approx(3600)


def test_a_queued_predictor_takes_its_time_per_batch(renderer):
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
    # Two full batches, then one waits for company, for the one before had some.
    assert times == pytest.approx([2.0, 2.0, 4.0, 4.0, 6.5])


@pytest.fixture(scope="module")
def measured(folder):
    errand = ClientTask("ours", PLAN, {"student": folder, "teacher": folder})
    ours = run(errand)
    plain = run(replace(errand, client="plain", teacher_share=ours.teacher_share))
    return {"ours": ours, "plain": plain, "lock_step": run(replace(errand, client="lock_step"))}


@pytest.mark.smoke
def test_each_client_keeps_what_it_can(measured):
    ours, plain, stepped = measured["ours"], measured["plain"], measured["lock_step"]
    # On the virtual clock rates are exact, not a matter of how busy the machine is.
    assert 0 < stepped.kept < ours.kept < plain.generated
    assert ours.received <= ours.generated
    assert ours.kept < ours.generated * 1.05
    assert plain.idle_seconds < 0.01 * plain.busy_seconds
    assert stepped.idle_seconds > ours.idle_seconds
    assert 0.4 < ours.teacher_share < 0.8


def test_a_run_is_repeatable(folder, measured):
    again = run(ClientTask("ours", PLAN, {"student": folder, "teacher": folder}))
    assert (again.kept, again.requests) == (measured["ours"].kept, measured["ours"].requests)


def test_fixed_drafts_are_what_they_say(folder, measured):
    plan = replace(PLAN, draft_tokens={"teacher": 10, "student": 5})
    fixed = run(ClientTask("ours", plan, {"student": folder, "teacher": folder}))
    ours = measured["ours"]
    assert fixed.kept < ours.kept
    assert fixed.requests / fixed.kept > 1.5 * ours.requests / ours.kept
    assert fixed.generated / fixed.kept > 1.05 * ours.generated / ours.kept


def test_an_oracle_wastes_less(folder, measured):
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
    assert f"| tax (limit / ours) | {summed['tax']:.2f} |" in shown
    assert "client CPU" not in shown


def test_a_window_in_which_the_cores_were_busy_is_named(measured):
    spent = {name: replace(found, server_cpu_seconds={"servers": 0.1}, cpu_seconds=0.1)
             for name, found in measured.items()}  # fmt: skip
    assert results.warnings(measured, simulated=True) == []  # on a virtual clock
    assert results.warnings(spent, simulated=True) == []
    busy = {**spent, "plain": replace(spent["plain"], server_cpu_seconds={"servers": 1000.0})}
    (said,) = results.warnings(busy, simulated=True)
    assert said.startswith("plain: ")
    assert "--slow-down" in said
    assert results.warnings(busy, simulated=False) == []
    shared = {**spent, "ours": replace(spent["ours"], machine_cpu_seconds=1000.0)}
    (said,) = results.warnings(shared, simulated=False)
    assert said.startswith("ours: ")
    assert "other work" in said


def test_a_window_that_the_host_disturbed_is_measured_again(measured, monkeypatch, capsys):
    stolen = [9.0, 1.0, 5.0]
    plans: list[Plan] = []

    def send(errand: ClientTask) -> Measured:
        plans.append(errand.plan)
        found: Measured = measured["ours"]
        return replace(found, stolen_cpu_seconds=stolen[len(plans) - 1])

    monkeypatch.setattr(clients, "send", send)
    errand = ClientTask("ours", PLAN, {})
    assert clients.send_undisturbed(errand).stolen_cpu_seconds == 1.0
    assert len({plan.draw_seed for plan in plans}) == len(plans) == 3
    assert capsys.readouterr().err.count("the host took") == 3
    stolen[:] = [0.0]
    plans.clear()
    clients.send_undisturbed(errand)
    assert plans == [PLAN]


def test_texts_start_at_every_place_of_their_turns_for_as_long_as_they_are_there():
    turns: dict[Author, int] = {"teacher": 10, "student": 40}
    seconds: dict[Author, float] = {"teacher": 8.0, "student": 1.0}
    places = [place_of_turn((i + 0.5) / 1200, turns, seconds) for i in range(1200)]
    times = Counter(places)
    assert {times[place] for place in range(10)} == {80}  # 8 of 120 seconds each
    assert {times[place] for place in range(10, 50)} == {10}
    assert set(times) == set(range(50))


def test_the_command_line():
    options = bench_cooperation.parse(["--concurrency", "1", "100", "--predictor-delay-ms", "25"])
    assert options.concurrency == [1, 100]
    assert bench_cooperation._plan(options, 100).predictor_delay_seconds == 0.025
    assert bench_cooperation._plan(options, 100).slow_down == 12.5
    assert [bench_cooperation._plan(options, n).slow_down for n in (1, 8, 16)] == [1, 1, 2]
    assert bench_cooperation._plan(options, 100).warm_up_seconds == 10
    assert bench_cooperation._plan(options, 1000).warm_up_seconds == pytest.approx(100)
    asked = bench_cooperation.parse(["--warm-up", "3", "--slow-down", "50"])
    assert bench_cooperation._plan(asked, 1000).warm_up_seconds == 3
    assert bench_cooperation._plan(asked, 1000).slow_down == 50
    jumping = bench_cooperation.parse(["--virtual"])
    assert bench_cooperation._plan(jumping, 1000).slow_down == 1
    with pytest.raises(SystemExit):
        bench_cooperation.parse(["--virtual", "--servers", "vllm"])


@pytest.mark.parametrize(
    ("wrong", "said"),
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
def test_what_cannot_be_measured_is_said_at_once(wrong, said, monkeypatch, capsys):
    monkeypatch.setenv("TESSY_VLLM_PYTHON", "no/python")
    with pytest.raises(SystemExit) as ended:
        bench_cooperation.parse(wrong.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[]", "bench_growth"),
        ('{"context": {}}', "no figures"),
    ],
)
def test_a_file_that_holds_no_results_makes_no_table(text, said, tmp_path, capsys):
    file = tmp_path / "x.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        table_of_file([str(file)])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# A process starts, which takes a while on a busy machine.
@pytest.mark.smoke
@pytest.mark.timeout(400)
def test_growth_over_real_sockets(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(clients, "_TRIES", 1)
    file = tmp_path / "growth.json"
    arguments = ["--context", "200", "--samples", "4", "--memory-samples", "0", "--rounds", "1"]
    window = ["--warm-up", "0.2", "--seconds", "1", "--slow-down", "1"]
    bench_growth.main([*arguments, *window, "--json", str(file)])
    told = capsys.readouterr()
    assert told.err.count("tessy, 4 samples") == 1
    document = json.loads(file.read_text())
    found = document["context"]["200"]
    low, high = found["spread"]["cpu_us_per_draft"]
    assert 0 < low <= found["cpu_us_per_draft"] <= high
    assert 0 < found["cpu_load"] < 1
    table_of_file([str(file)])
    assert Counter(capsys.readouterr().out.splitlines()) <= Counter(told.out.splitlines())
