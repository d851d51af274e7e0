"""Harmless and hostile samples for tests of pages."""

from typing import Any

from tessy.core.records import Failure, Trajectory

Pieces = tuple[tuple[str, str], ...]
PLAIN: Pieces = (("student", "Okay, let's see. "), ("teacher", "2 + 2 = 4."))
HOSTILE = (
    "<script>window.pwned = 1; alert(1)</script>",
    "</script><img src=x onerror=alert(2)><!--",
    "]]> <!--<script> --> ' \" ` &lt; &amp; ${1} {{ 7 * 7 }} {% raw %}",
    "\u202eright to left\u202c \u2028 \u2029 \u0000 \u001b[31m \r\n\t",
    "👩‍👩‍👧‍👦 e\u0301 𝔸 \U0010ffff 共有三种情况 שלום",
)


def sample(
    name: str,
    pieces: Pieces = PLAIN,
    *,
    number: int = 0,
    question: str = "What is 2 + 2?",
    answer: str = "It is 4.",
    counts: tuple[int, int] = (4, 6),
    drafted: tuple[int, int] = (8, 12),
    reason: str | None = None,
    problem: dict[str, Any] | None = None,
) -> Any:
    spans, position = [], 0
    for author, words in pieces:
        spans.append({"start": position, "end": position + len(words), "author": author})
        position += len(words)
    thinking = "".join(words for _, words in pieces)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    row = {
        "id": name,
        "sample": number,
        "strategy": "tessy",
        "messages": turns,
        "thinking": thinking,
        "answer": answer,
        "spans": spans,
        "tokens": {
            "student": counts[0],
            "teacher": counts[1],
            "answer": 5,
            "drafted": {"student": drafted[0], "teacher": drafted[1]},
        },
        "attempts": 1,
        "seconds": 1.5,
        "problem": problem or {},
    }
    if reason:
        return Failure.model_validate({**row, "reason": reason, "detail": "no room was left"})
    row["messages"] = [*turns, {"role": "assistant", "content": f"<think>{thinking}</think>"}]
    return Trajectory.model_validate({**row, "ended_by": "student"})
