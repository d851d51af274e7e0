from collections.abc import Iterator

from tessy.core.records import Author, Cost, Failure, Message, Span, TokenCounts, Trajectory
from tessy.runtime.summary import summarize

QUESTION = (Message(role="user", content="What is 2 + 2?"),)


def finished(
    name: str,
    student: int,
    teacher: int,
    answer: int = 5,
    *,
    drafted: dict[Author, int] | None = None,
    ended_by: Author = "student",
    attempts: int = 1,
) -> Trajectory:
    return Trajectory(
        id=name,
        sample=0,
        strategy="tessy",
        messages=QUESTION,
        thinking="Okay.",
        answer="4",
        spans=(Span(start=0, end=5, author="student"),),
        tokens=TokenCounts(
            student=student,
            teacher=teacher,
            answer=answer,
            drafted=drafted or {"student": student, "teacher": teacher},
        ),
        forced={"student": 1, "teacher": 2},
        glued=3,
        ended_by=ended_by,
        attempts=attempts,
        seconds=1.5,
        cost=Cost(requests={"student": 4, "teacher": 3}, seconds={"student": 0.5, "answer": 0.25}),
    )


def failed(name: str, reason: str = "budget", sample: int = 0) -> Failure:
    return Failure.model_validate(
        {
            "id": name,
            "sample": sample,
            "strategy": "tessy",
            "messages": [{"role": "user", "content": "?"}],
            "thinking": "",
            "answer": "",
            "spans": [],
            "tokens": {"student": 7, "teacher": 8, "drafted": {"student": 70, "teacher": 80}},
            "attempts": 5,
            "seconds": 2.0,
            "cost": {"requests": {"student": 1, "teacher": 1}, "seconds": {"predictor": 2.0}},
            "reason": reason,
            "detail": "reached 100 of 100 tokens",
        }
    )


def test_counts_shares_and_costs() -> None:
    rows = [
        finished("a", 30, 70, drafted={"student": 40, "teacher": 100}),
        finished("b", 10, 90, answer=7, ended_by="teacher", attempts=2),
    ]
    summary = summarize(rows, [failed("c")], seconds=12.34567)
    assert summary["samples"] == {"finished": 2, "failed": 1, "attempts": 8}
    assert summary["failures"] == {"budget": 1}
    assert summary["tokens"] == {
        "student": 40,
        "teacher": 160,
        "answer": 12,
        "share": {"student": 0.2, "teacher": 0.8},
        "drafted": {"student": 50, "teacher": 190},
        "rolled_back_share": {"student": 0.2, "teacher": round(30 / 190, 4)},
        "drafted_in_failures": {"student": 70, "teacher": 80},
        "generated": {"student": 50 + 12 + 70, "teacher": 190 + 80},
        "unseen": {"student": 0, "teacher": 0},
    }
    assert summary["forced"] == {"student": 2, "teacher": 4}
    assert summary["glued"] == 6
    assert summary["ended_by"] == {"student": 1, "teacher": 1}
    assert summary["lengths"]["answer"] == {"mean": 6.0, "median": 5, "p80": 7, "max": 7}
    assert summary["requests"] == {"student": 9, "teacher": 7}
    assert summary["seconds"] == {
        "wall": 12.346,
        "parts": {"answer": 0.5, "predictor": 2.0, "student": 1.0},
    }


def test_an_empty_run_has_no_shares() -> None:
    summary = summarize([], [])
    assert summary["samples"]["finished"] == 0
    assert summary["tokens"]["share"] == {"student": None, "teacher": None}
    assert summary["tokens"]["rolled_back_share"] == {"student": None, "teacher": None}
    assert summary["lengths"]["thinking"]["p80"] is None
    assert summary["seconds"]["wall"] is None


def test_a_retried_key_counts_once() -> None:
    summary = summarize(
        [finished("a", 1, 1)],
        [failed("a"), failed("b", "budget"), failed("b", "repetition"), failed("b", sample=1)],
    )
    assert summary["samples"]["failed"] == 2
    assert summary["failures"] == {"repetition": 1, "budget": 1}


def test_rows_are_read_in_one_pass() -> None:
    def stream() -> Iterator[Trajectory]:
        for number in range(5):
            yield finished(str(number), number, 0)

    assert summarize(stream(), iter(()))["lengths"]["thinking"]["max"] == 4


def test_a_negative_rolled_back_share_is_zero() -> None:
    row = finished("a", 1, 120, drafted={"student": 1, "teacher": 100})
    assert summarize([row], [])["tokens"]["rolled_back_share"]["teacher"] == 0.0


def test_a_replaced_failure_adds_its_cost_and_nothing_else():
    row = finished("a", 10, 20, attempts=6)
    summary = summarize([row], [], [failed("a")])
    assert summary["samples"] == {"finished": 1, "failed": 0, "attempts": 6}
    assert summary["failures"] == {}
    assert summary["requests"] == {"student": 5, "teacher": 4}
    assert summary["tokens"]["drafted_in_failures"] == {"student": 70, "teacher": 80}
    assert summary["tokens"]["generated"] == {"student": 10 + 5 + 70, "teacher": 20 + 80}


def test_generated_tokens_include_those_that_were_not_received():
    row = finished("a", 10, 20)
    row = row.model_copy(update={"cost": Cost(unseen={"student": 3, "teacher": 4})})
    tokens = summarize([row], [])["tokens"]
    assert tokens["generated"] == {"student": 10 + 5 + 3, "teacher": 20 + 4}
    assert tokens["unseen"] == {"student": 3, "teacher": 4}
