"""The worker process for formulas."""

from __future__ import annotations

import signal

import pytest

from tessy.answers.maths import ExpiredError, MathsWorker, WorkerLostError
from tessy.core.errors import TessyError


@pytest.fixture
def worker():
    worker = MathsWorker()
    yield worker
    worker.close()


def test_a_worker_is_replaced_after_a_comparison_beyond_its_limits(worker, monkeypatch):
    assert worker.verify("x+1", "1+x")
    with monkeypatch.context() as patch:
        patch.setattr("tessy.answers.maths.LIMIT_SECONDS", 0.001)
        with pytest.raises(ExpiredError, match="killed after"):
            worker.verify("x^{60}", "(a+b+c+d)^{60}")
    assert worker.verify("x+1", "1+x")


def test_a_worker_is_replaced_after_a_number_of_comparisons(worker, monkeypatch):
    monkeypatch.setattr("tessy.answers.maths.RECYCLE_AFTER", 1)
    assert worker.verify("x+1", "1+x")
    assert worker.verify("y+1", "1+y")


def test_a_worker_that_was_killed_is_asked_again(worker):
    assert worker.verify("x+1", "1+x")
    worker._process.kill()
    worker._process.wait()
    assert worker.verify("y+1", "1+y")


def test_a_worker_that_always_dies_is_no_reply(worker, monkeypatch):
    start = MathsWorker._start

    def start_and_kill(self):
        process = start(self)
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(MathsWorker, "_start", start_and_kill)
    with pytest.raises(WorkerLostError, match="twice"):
        worker.verify("x+1", "1+x")


def test_an_interrupt_does_not_shift_the_replies(worker):
    assert worker.verify("x+1", "1+x")

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    worker._process.send_signal(signal.SIGSTOP)  # so that the interrupt comes before the reply
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            worker.verify("x+2", "2+x")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not worker.verify("x+1", "x+2")


def test_a_start_beyond_the_limit_is_an_error(worker, monkeypatch):
    monkeypatch.setattr("tessy.answers.maths.LIMIT_SECONDS", 0.001)
    with pytest.raises(TessyError, match="does not start"):
        worker.verify("x+1", "1+x")


def test_the_current_folder_provides_no_modules(worker, tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert worker.verify("x+1", "1+x")
