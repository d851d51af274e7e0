"""`tessy annotate` end to end: real HTTP servers, faults, stops and resumes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tessy.boundary.annotation.directory import ANNOTATIONS, read_annotations
from tessy.core.errors import (
    EngineMisconfigured,
    EngineUnavailable,
    RunError,
    TessyError,
    reason_label,
)
from tessy.storage.run_reader import iter_failed_rows
from tests.support.annotate_command import (
    config,
    fill_responses,
    run,
    summary,
    thinking,
    thinkings,
    write_rules,
)
from tests.support.chat_server import FakeChat, Fault, excerpt, marks
from tests.support.rows import fill, row


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    return fill_responses(tmp_path / "responses")


@pytest.fixture
def rule(tmp_path: Path) -> Path:
    return write_rules(tmp_path / "rules.py")


# ---------------------------------------------------------------- output


def test_a_model_marks_every_segment(responses):
    with FakeChat() as server:
        code, output = run(config(responses, server))
    assert code == 0
    texts = thinkings(responses)
    rows = read_annotations(responses.parent / "out")
    assert len(rows) == len(server.seen) > 16
    assert {item.key[:2] for item in rows} == set(texts)
    for item in rows:
        assert texts[item.id, item.sample][item.start :].startswith(item.text)
        styles = [item.text[span.start : span.end] for span in item.style]
        assert styles == json.loads(marks(server.seen[0] | {"messages": prompt_of(item.text)}))
        assert (item.author, item.attempts) == ("student", 1)
    figures = summary(responses.parent / "out")
    assert figures["responses"] == {"used": 8, "failed": 1}
    assert figures["segments"]["n"] == figures["segments"]["accepted"] == len(rows)
    assert figures["segments"]["acceptance_rate_95"][0] < 1.0
    assert 0.1 < figures["style_chars"] < 0.5
    assert "Acceptance rate" in output
    assert f"n = {len(rows)}" in output
    assert "1 failed ones skipped" in output
    assert f"{len(rows)} of {len(rows)} done" in output


def prompt_of(text: str) -> list[dict[str, str]]:
    return [{"content": f"\n=== EXCERPT 0\n{text}\n=== EXCERPT 0"}]


def test_a_rule_marks_every_segment(responses, rule):
    with FakeChat() as server:
        run(config(responses, server))
    code, _ = run(config(responses, rule=f"{rule}:style", out=responses.parent / "ruled"))
    assert code == 0
    by_model, by_rule = (read_annotations(responses.parent / name) for name in ("out", "ruled"))
    assert by_rule == by_model


def test_config_records_the_inputs(responses):
    with FakeChat() as server:
        run(config(responses, server))
    document = json.loads((responses.parent / "out/config.json").read_text("utf-8"))
    source = json.loads((responses / "config.json").read_text("utf-8"))
    data = document["data_config"]
    assert document["config"]["responses"] == str(responses)
    assert data["responses.data_digest"] == source["data_digest"]
    assert len(data["instruction"]) == 64
    assert (data["model"], data["rule"], data["sampling.top_k"]) == ("strong", None, 20)


def test_max_tokens_allow_the_segment_twice(responses):
    with FakeChat() as server:
        run(config(responses, server))
        for body in server.seen:
            assert body["max_tokens"] > 2 * len(excerpt(body).encode())


# ---------------------------------------------------------------- unusable replies


def test_a_rejected_reply_is_retried_once_with_the_reason(responses):
    def once_bad(body: dict[str, Any]) -> str:
        again = "could not be used" in body["messages"][0]["content"]
        return f"```json\n{marks(body)}\n```" if again else '["Hullo"]'

    with FakeChat(once_bad) as server:
        assert run(config(responses, server))[0] == 0
    rows = read_annotations(responses.parent / "out")
    assert {item.attempts for item in rows} == {2}
    again = [b["messages"][0]["content"] for b in server.seen if "Hullo" in str(b["messages"])]
    assert len(again) == len(rows)
    assert "'Hullo' does not occur in the text as whole words" in again[0]
    seeds = [body["seed"] for body in server.seen]
    assert len(set(seeds)) == len(seeds) == 2 * len(rows)
    assert summary(responses.parent / "out")["segments"]["retried"] == len(rows)


@pytest.mark.parametrize(
    ("reply", "finish", "reason"),
    [
        ("I see no style.", "stop", "not_json"),
        ('["So", "Hullo"]', "stop", "not_found"),
        ('["So"', "length", "truncated"),
        (Fault("status", status=422), "stop", "refused"),
    ],
)
def test_a_failed_segment_is_a_row_with_the_reply(responses, reply, finish, reason):
    def script(body: dict[str, Any]) -> str | Fault:
        bad: bool = " 7 " in excerpt(body)
        return reply if bad else marks(body)

    with FakeChat(script) as server:
        if finish == "length":
            server.finish = finish
            with pytest.raises(TessyError, match="none of"):
                run(config(responses, server))
        else:
            code, output = run(config(responses, server))
            assert code == 0
            assert f"{reason_label(reason)} " in output
    failures = list(iter_failed_rows(responses.parent / "out", ANNOTATIONS))
    assert failures
    assert {item.reason for item in failures} == {reason}
    assert all(item.detail for item in failures)
    assert {item.attempts for item in failures} == {1 if reason == "refused" else 2}
    if isinstance(reply, str):
        assert any(item.reply == reply for item in failures)
    assert summary(responses.parent / "out")["failures"] == {reason: len(failures)}


def test_a_run_without_accepted_segments_fails_with_the_path_of_the_failures(responses, rule):
    options = config(responses, rule=f"{rule}:liar")
    with pytest.raises(TessyError, match=r"none of \d+ segments was accepted.*failures\.jsonl"):
        run(options)
    failures = list(iter_failed_rows(options.out, ANNOTATIONS))
    assert {(item.reason, item.attempts) for item in failures} == {("not_found", 1)}
    assert summary(options.out)["segments"]["acceptance_rate"] == 0.0
    with pytest.raises(TessyError, match="none of"):
        run(options)


def test_failed_segments_are_retried_on_request_only(responses):
    def script(body: dict[str, Any]) -> str:
        return "no" if server.model == "strong" and " 7 " in excerpt(body) else marks(body)

    with FakeChat(script) as server:
        run(config(responses, server))
        count = len(server.seen)
        lost = {item.key for item in iter_failed_rows(responses.parent / "out", ANNOTATIONS)}
        assert lost
        server.script = marks
        assert run(config(responses, server))[0] == 0
        assert len(server.seen) == count
        assert run(config(responses, server, retry_failed=True))[0] == 0
    assert len(server.seen) == count + len(lost)
    rows = {item.key: item for item in read_annotations(responses.parent / "out")}
    assert {rows[key].attempts for key in lost} == {3}
    assert list(iter_failed_rows(responses.parent / "out", ANNOTATIONS)) == []


# ---------------------------------------------------------------- failing servers


def test_transient_server_errors_are_retried(responses):
    with FakeChat(refuses=frozenset({"top_k", "chat_template_kwargs"})) as server:
        server.faults = [
            Fault("status", status=429, headers={"Retry-After": "0"}),
            Fault("reply", body="{}"),
            Fault("cut"),
            Fault("status", status=503),
        ]
        assert run(config(responses, server))[0] == 0
    rows = read_annotations(responses.parent / "out")
    assert {item.attempts for item in rows} == {1}
    assert len(server.seen) == len(rows) + 4
    log = (responses.parent / "out/run.log").read_text("utf-8")
    assert "refuses top_k and min_p, which requests omit" in log
    assert "refuses chat_template_kwargs, which requests omit" in log


def test_requests_fail_over_to_the_other_replica(responses):
    with FakeChat() as first, FakeChat() as second:

        def script(body: dict[str, Any]) -> str:
            if len(first.seen) == 3:
                threading.Thread(target=first.stop).start()
            return marks(body)

        first.script = script
        assert run(config(responses, first, second))[0] == 0
        assert len(second.seen) > 3
    assert {item.attempts for item in read_annotations(responses.parent / "out")} == {1}


def test_unreachable_servers_end_the_run_and_finished_rows_are_kept(responses):
    with FakeChat() as server:

        def script(body: dict[str, Any]) -> str:
            if len(server.seen) == 8:
                threading.Thread(target=server.stop).start()
            return marks(body)

        server.script = script
        options = config(responses, server, server_patience_seconds=0.5)
        with pytest.raises(EngineUnavailable, match="annotator: nothing came from"):
            run(options)
    finished = len(read_annotations(options.out))
    assert finished >= 4
    assert summary(options.out)["segments"]["accepted"] == finished


def test_a_wrong_model_or_key_ends_the_run(responses, monkeypatch):
    monkeypatch.setenv("STRONG_KEY", "guess")
    with FakeChat(api_key="secret") as server:
        with pytest.raises(EngineMisconfigured, match="401"):
            run(config(responses, server, api_key_env="STRONG_KEY"))
        monkeypatch.setenv("STRONG_KEY", "secret")
        with pytest.raises(EngineMisconfigured, match="no such model"):
            run(config(responses, server, api_key_env="STRONG_KEY", model="weak"))
        assert run(config(responses, server, api_key_env="STRONG_KEY"))[0] == 0


# ---------------------------------------------------------------- stop and resume


def slowly(body: dict[str, Any]) -> str:
    time.sleep(0.01)
    return marks(body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_resumes_without_annotating_twice(responses, number):
    out = responses.parent / "out"
    with FakeChat() as server:
        options = config(responses, server, concurrency=2, segment_words=6)
        main = "import sys; from tessy.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", main, "annotate", "--responses", str(responses)]
        command += ["--out", str(out), "--model", "strong", "--url", server.url]
        command += ["--segment-words", "6", "--concurrency", "2"]
        server.script = slowly
        environment = {**os.environ, "COLUMNS": "200"}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        while not (out / "annotations.jsonl").exists() or len(server.seen) < 20:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        _, output = process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert ("Stopped gracefully" in output) == (number == signal.SIGINT)
        finished = len(read_annotations(out))
        assert run(options)[0] == 0
    rows = read_annotations(out)
    assert finished < len(rows)
    lines = (out / "annotations.jsonl").read_text("utf-8").splitlines()
    keys = Counter((r["id"], r["sample"], r["segment"]) for r in map(json.loads, lines))
    assert set(keys.values()) == {1}
    # After a kill, requests in flight are repeated; a graceful stop waits for them.
    again = len(server.seen) - len(rows)
    assert again == 0 if number == signal.SIGINT else 0 <= again <= 2


def test_more_segments_may_be_requested_on_resume(responses, rule):
    first = config(responses, rule=f"{rule}:style", segments=5)
    run(first)
    few = {item.key: item for item in read_annotations(first.out)}
    assert len(few) == 5
    assert Counter(key[:2] for key in few).most_common(1)[0][1] == 1
    run(config(responses, rule=f"{rule}:style", segments=12))
    more = {item.key: item for item in read_annotations(first.out)}
    assert len(more) == 12
    assert {key: more[key] for key in few} == few


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 3}, "seed: 0, now 3"),
        ({"segment_words": 31}, "segment_words: 30, now 31"),
        ({"rule": "nothing"}, "rule: "),
    ],
)
def test_other_options_are_refused_on_resume(responses, rule, change, named):
    run(config(responses, rule=f"{rule}:style", segments=4))
    change = {**change, "rule": f"{rule}:{change.get('rule', 'style')}"}
    with pytest.raises(RunError, match=named):
        run(config(responses, **change))
    assert run(config(responses, **change, fresh=True))[0] == 0
    assert len(read_annotations(f"{responses.parent / 'out'}.old-1")) == 4


def test_an_edited_rule_is_refused_on_resume(responses, rule):
    options = config(responses, rule=f"{rule}:style", segments=4)
    run(options)
    rule.write_text(rule.read_text("utf-8").replace("Okay,", "Well,"), "utf-8")
    with pytest.raises(RunError, match=r"rule\.digest: "):
        run(config(responses, rule=f"{rule}:style", segments=6))
    assert len(read_annotations(options.out)) == 4
    write_rules(rule)
    assert run(config(responses, rule=f"{rule}:style", segments=6))[0] == 0
    assert len(read_annotations(options.out)) == 6


def test_a_rule_of_a_module_is_identified_by_its_file(responses, rule, monkeypatch):
    monkeypatch.syspath_prepend(rule.parent)
    monkeypatch.delitem(sys.modules, rule.stem, raising=False)
    run(config(responses, rule=f"{rule.stem}:style", segments=4))
    monkeypatch.delitem(sys.modules, rule.stem)
    document = json.loads((responses.parent / "out/config.json").read_text("utf-8"))
    digest = hashlib.sha256(rule.read_bytes()).hexdigest()
    assert document["data_config"]["rule.digest"] == digest


def test_annotations_of_another_run_are_refused(responses, rule, tmp_path):
    run(config(responses, rule=f"{rule}:style"))
    fill(tmp_path / "others", row(thinking=thinking(3)))
    source = tmp_path / "others/config.json"
    document = json.loads(source.read_text("utf-8"))
    source.write_text(json.dumps(document | {"created": "2026-01-01"}), "utf-8")
    with pytest.raises(RunError, match=r"responses\.created"):
        run(config(tmp_path / "others", rule=f"{rule}:style", out=responses.parent / "out"))
