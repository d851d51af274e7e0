"""Benchmarks with final answers: GPQA, AIME and OlympiadBench, on problems of our own."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tessy.core.errors import BadRowsError
from tessy.evaluation.judges.olympiad import JUDGE as OLYMPIAD
from tessy.evaluation.judges.registry import all_judges
from tessy.evaluation.load import load_benchmark
from tessy.evaluation.sources.gpqa import permuted
from tests.evaluation.test_load import options
from tests.support.benchmarks import sized
from tests.support.livecodebench import write
from tests.support.paths import SHARED

# ---------------------------------------------------------------- GPQA

COLUMNS = (
    "Pre-Revision Question", "Question", "Correct Answer", "Incorrect Answer 1",
    "Incorrect Answer 2", "Incorrect Answer 3", "Explanation", "Subdomain", "Record ID",
    "High-level domain",
)  # fmt: skip


def gpqa(path: Path, *names: str, **changed: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        for name in names:
            row = dict.fromkeys(COLUMNS, "unused") | {
                "Question": f"  Which animal is {name}?\n", "Correct Answer": f"\nthe {name} ",
                **{f"Incorrect Answer {n}": f"animal {n}" for n in (1, 2, 3)},
                "Record ID": name, "Subdomain": "Zoology", "High-level domain": "Biology",
            }  # fmt: skip
            rows.writerow(row | changed)
    return path


def test_gpqa_permutes_the_options_by_the_id(tmp_path: Path, monkeypatch):
    names = [f"rec{n}" for n in range(40)]
    sized(monkeypatch, "gpqa-diamond", 40)
    found = load_benchmark(options("gpqa-diamond", data=gpqa(tmp_path / "g.csv", *names)))
    asked = {problem.id: problem for problem in found.loaded.problems}
    letters = {name: found.judged[name].reference for name in names}
    assert set(letters.values()) == set("ABCD")
    for name, letter in letters.items():
        assert f"{letter}) the {name}" in asked[name].messages[0].content.splitlines()
    turned = load_benchmark(options("gpqa-diamond", data=gpqa(tmp_path / "h.csv", *names[::-1])))
    assert {name: one.reference for name, one in turned.judged.items()} == letters
    assert [permuted(f"rec{n}", 4) for n in (0, 1)] == [[2, 1, 3, 0], [0, 1, 3, 2]]
    a, b, c, d = (["the rec0", "animal 1", "animal 2", "animal 3"][n] for n in permuted("rec0", 4))
    assert asked["rec0"].messages[0].content == (
        "Answer the following multiple choice question. The last line of your response should be "
        "of the following format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of "
        f"ABCD.\n\nWhich animal is rec0?\n\nA) {a}\nB) {b}\nC) {c}\nD) {d}"
    )
    assert asked["rec0"].extra["domain"] == "Biology"
    assert "Explanation" not in asked["rec0"].extra
    assert found.judges() == "choice 3"


def test_rows_of_gpqa_without_an_option_are_refused(tmp_path: Path):
    file = gpqa(tmp_path / "g.csv", "a", **{"Incorrect Answer 2": " "})
    with pytest.raises(BadRowsError, match=r"Incorrect Answer 2: expected text, got empty text"):
        load_benchmark(options("gpqa-diamond", data=file))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Some.\nANSWER: B", ("B", "answer line")),
        ("ANSWER: A\nNo.\nANSWER: B\n", ("B", "answer line")),
        ("ANSWER:B", ("B", "answer line")),
        (r"\boxed{A}" "\nANSWER: B", ("B", "answer line")),
        ("**ANSWER: B**", ("B", "stated answer")),
        ("**Answer:** B", ("B", "stated answer")),
        ("Answer: $B$", ("B", "stated answer")),
        ("ANSWER: (B)", ("B", "stated answer")),
        (r"ANSWER: $\boxed{B}$", ("B", "stated answer")),
        (r"ANSWER: \boxed{\text{B}}", ("B", "stated answer")),
        ("ANSWER: B) the second", ("B", "stated answer")),
        ("ANSWER: B.\nI am sure.", ("B", "stated answer")),
        ("ANSWER: A or B", None),
        ("ANSWER: Bees", None),
        ("ANSWER: E", None),
        ("answer: A is wrong.\n" r"So \boxed{B}.", ("B", "boxed")),
        (r"The answer is \boxed{B}.", ("B", "boxed")),
        ("The answer is (B).", ("The answer is (B).", "last line")),
        ("<think>ANSWER: A</think>\nANSWER: B", ("B", "answer line")),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(answer, expected):
    choices = {"choices": ["first", "second", "third", "fourth"]}
    found = all_judges()["choice"].decide(answer, "B", choices)
    assert (found and (found.final_answer, found.rule)) == expected
    assert found is None or found.correct


@pytest.mark.parametrize(
    "answer",
    [
        "ANSWER: A",
        r"Answer: \boxed{A}",
        r"\boxed{A}",
        r"\boxed{third}",
        r"\boxed{x + 2}",
        "The answer is (C).",
        "The answer is third.",
        "C) third",
        "D",
    ],
)
def test_another_choice_is_wrong(answer):
    choices = {"choices": ["first", "second", "third", "$x + 2$"]}
    found = all_judges()["choice"].decide(answer, "B", choices)
    assert found is not None
    assert not found.correct


@pytest.mark.parametrize(
    "answer",
    [
        "I do not know.",
        "I cannot decide between A and B.",
        "A difficult question.",
        "It depends on the definition of first and second.",
        r"\boxed{\text{I do not know}}",
        r"\boxed{fifth}",
        "None of these.",
        "ANSWER: unknown",
    ],
)
@pytest.mark.parametrize("choices", [["first", "second", "third", "fourth"], []])
def test_a_text_that_names_no_choice_has_no_answer(answer, choices):
    assert all_judges()["choice"].decide(answer, "B", {"choices": choices}) is None


# ---------------------------------------------------------------- AIME


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("025", "25"), (70.0, "70"), ("70.0", "70"), (7, "7"), ("000", "0"), ("$104$", "104")],
)
def test_answers_of_the_aime_are_whole_numbers(tmp_path: Path, answer, reference):
    rows = [{"id": str(n), "problem": f"{n}?", "answer": answer} for n in range(30)]
    found = load_benchmark(options("aime25", data=write(tmp_path / "a.jsonl", *rows)))
    assert {one.reference for one in found.judged.values()} == {reference}
    assert found.loaded.problems[3].messages[0].content == (
        "3?\nRemember to put your final answer within \\boxed{}."
    )


@pytest.mark.parametrize("answer", ["1000", "2.5", "-3", "x", "1/2"])
def test_other_answers_of_the_aime_are_refused(tmp_path: Path, answer):
    file = write(tmp_path / "a.jsonl", {"id": "a", "problem": "?", "answer": answer})
    with pytest.raises(BadRowsError, match="reference: the judge maths expects"):
        load_benchmark(options("aime24", data=file))


# ---------------------------------------------------------------- OlympiadBench


def olympiad(name: int, answer: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name, "subfield": "Algebra", "context": None, "question": f"Solve {name}.",
        "solution": ["long"], "final_answer": [answer], "is_multiple_answer": False, "unit": None,
        "answer_type": "Numerical", "error": None, "language": "English", "subject": "Math", **more,
    }  # fmt: skip


def test_prompts_of_olympiadbench_depend_on_the_answer(tmp_path: Path, monkeypatch):
    rows = [
        olympiad(1, "4"),
        olympiad(2, "1,2", is_multiple_answer=True, context="Given."),
        olympiad(3, "(1,2)", answer_type="Tuple", unit="cm"),
        olympiad(4, "1,x", is_multiple_answer=True, answer_type="Numerical,Expression"),
        olympiad(5, "$221,$8$", is_multiple_answer=True),
    ]
    sized(monkeypatch, "olympiadbench", 5)
    found = load_benchmark(options("olympiadbench", data=write(tmp_path / "o.jsonl", *rows)))
    asked = [problem.messages[0].content for problem in found.loaded.problems]
    assert asked[0] == (
        "The following is an open-ended problem from an International Math competition. The answer "
        "of The problem should be a numerical value. Please calculate the answer according to the "
        "given requirements and the information provided. Please use LaTeX format to represent the "
        "variables and formulas used in the solution process and results. Please end your solution "
        'with "So the final answer is \\boxed{answer}." and give the result explicitly.\nSolve 1.'
        "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert "each of them should be a numerical value. Please" in asked[1]
    assert '"So the final answer is \\boxed{multiple answers connected with commas}."' in asked[1]
    assert "explicitly.\nGiven.\nSolve 2.\n\nPlease reason" in asked[1]
    assert "competition. Please calculate" in asked[2]
    assert '\\boxed{answer}(unit)." and give the result explicitly, note that the unit' in asked[2]
    assert "the answers in order being a numerical value, an expression. Please" in asked[3]
    assert found.judged["5"].reference == "$221$,$8$"
    assert found.judges().startswith("olympiad 1 (math-verify ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"final_answer": ["1", "2"]}, "final_answer: expected a list with one text"),
        ({"final_answer": None}, "final_answer: expected a list with one text"),
        ({"answer_type": "Proof"}, "answer_type: expected some of Numerical"),
        ({"question": ""}, "question: expected text"),
    ],
)
def test_unusable_rows_of_olympiadbench(tmp_path: Path, change, message):
    file = write(tmp_path / "o.jsonl", olympiad(1, "4") | change)
    with pytest.raises(BadRowsError, match=message):
        load_benchmark(options("olympiadbench", data=file))


def decide(gold: str, answer: str, error: object = None) -> bool | None:
    found = OLYMPIAD.decide(answer, gold, {"error": error})
    return found and found.correct


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("1,2", r"\boxed{2,1}", True),
        ("1,2", r"\boxed{2, 2}", False),
        ("1,2", r"\boxed{1}", False),
        ("1", r"\boxed{1,2}", False),
        ("1,2", r"\boxed{1} and \boxed{2}", True),
        ("$1$,$2$", r"\boxed{x=1, y=2}", True),
        ("(1,2),(3,4)", r"\boxed{(3,4),(1,2)}", True),
        ("(1,2)", r"\boxed{(2,1)}", False),
        ("2,-2", r"\boxed{\pm 2}", True),
        (r"\{1,2\}", r"\boxed{\{2,1\}}", True),
        ("f(x)=x+1", r"\boxed{1+x}", True),
        ("x+1", r"\boxed{f(x) = x+1}", True),
        ("x=1", r"\boxed{y=2}", False),
        ("x=1", r"\boxed{y=1}", False),
        (r"V_{\text{max}}=3x", r"\boxed{3x}", True),
        (r"\left|\vec{F}\right|=3x", r"\boxed{3x}", True),
        (r"\frac{dy}{dx}=2x", r"\boxed{2x}", True),
        (r"x^2=4", r"\boxed{4}", False),
        (r"\sqrt{x}=2", r"\boxed{2}", False),
        ("x+1=2", r"\boxed{2}", False),
        ("2,3", r"\boxed{x \in \{2,3\}}", True),
        (r"\frac12", r"\boxed{x=\frac12=0.5}", True),
        ("12,34", r"\boxed{34, 12.}", True),
        (r"\frac12", r"\boxed{0.5}", True),
        (r"\frac{1}{3}", r"\boxed{0.33}", False),
        (r"\sqrt{2}", r"\boxed{1.41421356237}", True),
        ("104", r"First \boxed{7}. Then \boxed{104}.", True),
        ("104", "The answer is 104.", True),
        ("104", "The answer is 105.", False),
        ("1,2", r"\boxed{}", None),
        ("4", "", None),
    ],
)
def test_answers_of_olympiads(gold, answer, equal):
    assert decide(gold, answer) is equal


@pytest.mark.parametrize(
    ("gold", "answer", "error", "equal"),
    [
        ("2.5", "2.59", "0.1", True),
        ("2.5", "2.65", "0.1", False),
        ("2.5", "2.6", 0.1, True),
        ("1,100", "105, 1.001", "0.01,10", True),
        ("1,100", "1.1, 105", "0.01,10", False),
        ("1,100", "1.05,100.05", "0.1", True),
        ("1.0,1.2", "1.1,0.9", "0.15", True),  # only one pairing is possible
        ("x+1", "1+x", "0.1", True),
        ("2.5", "2.59", "about", False),
        ("2.5", "2.59", "inf", False),
    ],
)
def test_tolerances(gold, answer, error, equal):
    assert decide(gold, rf"\boxed{{{answer}}}", error) is equal


def test_the_labelled_pairs_of_olympiadbench_agree():
    file = SHARED / "data" / "olympiad_pairs.jsonl"
    if not file.exists():
        pytest.skip(f"{file.name} is only in the project's own checkout")
    pairs = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    for pair in pairs:
        boxed = pair["answer"] if "boxed" in pair["answer"] else rf"\boxed{{{pair['answer']}}}"
        assert decide(pair["gold"], boxed, pair.get("precision")) is pair["equal"], pair
