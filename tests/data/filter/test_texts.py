"""Checks of single texts: truncation, empty answers, code, markers, loops and scripts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.repetition import find_any_loop, find_loop
from tessy.data.filter.fences import split_fences
from tessy.data.filter.rules.chat_markers import chat_markers
from tessy.data.filter.rules.empty_answer import empty
from tessy.data.filter.rules.language import language_switch, shares
from tessy.data.filter.rules.no_code import asks_for_code, without_code
from tessy.data.filter.rules.truncated import truncated
from tests.support.paths import SHARED

DATA = SHARED / "data"

needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs the shared data")


def rows_of(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


CODE = "Use a heap.\n\n```python\nimport heapq\n\ndef main():\n    print(1)\n\nmain()\n```"
PROSE = (
    "The largest jump is found by bisection over the distance that is still possible.\n"
    "For each distance we remove the rocks that are too near to the last one that was kept.\n"
    "If more than M rocks have to go then the distance is too large and we try a smaller one.\n"
)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("Use a heap.\n```python\nimport heapq\nprint(", "code block of 2 lines"),
        ("~~~\nx\n```", "code block"),
        (r"We get \[ x = \frac{1}{2} \] and then \[ y = 3", r"2 \[ and 1 \]"),
        (r"So \( x + 1 \) and \( y", r"2 \( and 1 \)"),
        ("Thus\n$$\nx = 3", "the last formula is not closed"),
        (r"\begin{align} a &= b \\ \end{align} \begin{cases} 1", r"\begin{cases}"),
        (r"The answer is $\boxed{\frac{1}{2}$.", r"\boxed"),
        ("First we sort the rocks,", "','"),
        ("Here is the program:", "':'"),
        ("**Here is the program:**", "':'"),
        ("The result is x =", "'='"),
        ("我们先排序，", "'，'"),
        ("So the number of rocks is the", "'the'"),
        (
            PROSE + "With this in mind we go through all rocks from left to right until every",
            "stop",
        ),
    ],
)
def test_a_truncated_answer_is_found(answer: str, message: str) -> None:
    detail = truncated(answer)
    assert detail is not None
    assert message in detail


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "4",
        "So the answer is 4.",
        "The answer is A",
        "The answer is $\\boxed{\\frac{1}{2}}$",
        "**Answer:** 12",
        "Use C++",
        "see https://example.org/",
        CODE,
        "```python\ndef main():\n    pass\nmain()```",
        "1. item\n\n   ```c\n   int x;\n   ```",
        PROSE + "Done",
        PROSE
        + "The total of all rocks that are left when the bisection has ended is 3 + 4 = 7 rocks",
        "He earns $$10 a day",
        "$$x^2$$\nand so\n$$\ny\n$$",
        "A matrix \\[ \\begin{pmatrix} 1 & 2 \\\\[2pt] 3 & 4 \\end{pmatrix} \\]",
        "A fence is written as `\\[` in LaTeX.",
        "所以答案是 4",
        "- first\n- second",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "The brace that is missing is `{`",
        "The transition of the table is `dp[i] = `",
        "Das Licht im Keller geht dann an",
        "La médaille du vainqueur est en or",
        "Thank you for your letter.\n\nSincerely,",
        "The countries:\n- France,\n- Italy,",
    ],
)
def test_a_complete_answer_passes(answer: str) -> None:
    assert truncated(answer) is None


@given(st.integers(min_value=1, max_value=len(CODE) - 4).filter(lambda n: n > CODE.index("```")))
def test_code_cut_at_any_character_is_truncated(length: int) -> None:
    cut = CODE[:length]
    complete = "```" not in cut or cut.count("```") == 2
    assert complete or truncated(cut) is not None


@pytest.mark.parametrize("answer", ["", " \n\t", "...", "```\n```", "**", "—", "` `"])
def test_an_answer_without_content_is_empty(answer: str) -> None:
    assert empty(answer) is not None


@pytest.mark.parametrize("answer", ["4", "A", "是", "$\\emptyset$", "∅", "=", "a.", "```\nx\n```"])
def test_an_answer_with_content_is_not_empty(answer: str) -> None:
    assert empty(answer) is None


@pytest.mark.parametrize(
    ("problem", "text", "marker"),
    [
        ("2 + 2?", "Okay.</think>\n4", "</think>"),
        ("2 + 2?", "Okay <|im_end|>\n<|im_start|>user", "<|im_end|> at character 5"),
        ("2 + 2?", "We compute.assistantfinalThe answer is 4", "assistantfinal"),
        ("2 + 2?", "<|start|>assistant<|channel|>analysis", "<|start|>"),
        ("2 + 2?", "好的<｜User｜>再见", "<｜User｜>"),
        ("2 + 2?", "Okay.◁/think▷4", "◁/think▷"),
        ("2 + 2?", "<｜end▁of▁sentence｜>", "end▁of▁sentence"),
        ("2 + 2?", "[INST] go on [/INST]", "[INST]"),
        ("2 + 2?", "<start_of_turn>model", "<start_of_turn>"),
        ("What does <|im_end|> do?", "It ends. <|im_end|> And <think>", "<think>"),
    ],
)
def test_a_chat_marker_is_found(problem: str, text: str, marker: str) -> None:
    detail = chat_markers(problem, text)
    assert detail is not None
    assert marker in detail


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("What does <|im_end|> do?", "The marker <|im_end|> ends a turn."),
        ("2 + 2?", "Let me think. if a <b> and |x| < 3 then <x|y|z>, `a <| b |> c`"),
        ("Expectation", "⟨ψ|H|ψ⟩ = <|psi|>"),
        ("2 + 2?", "the assistant finally answers"),
        ("generics", "std::vector<start> x; <s>struck</s>"),
    ],
)
def test_text_similar_to_markers_passes(problem: str, text: str) -> None:
    assert chat_markers(problem, text) is None


REAL = (
    "Okay, let's see. The array has n elements. But wait, the third one is negative, so the sum "
    "from 2 to 4 is 7. Let me check: 3 + 4 = 7. Hmm, that seems right. "
)


@pytest.mark.parametrize(
    "loop",
    [
        "Wait, let me check. " * 8,
        "But wait, maybe I should think about the case where the array is empty. " * 8,
        " ".join(f"word{n}" for n in range(50))
        + (" " + " ".join(f"word{n}" for n in range(50))) * 7,
        "等一下，让我再想一想这个问题。" * 30,
        "x" * 400,
        " " * 400,
        "0 1 " * 100,
    ],
)
@pytest.mark.parametrize("before", ["", REAL, REAL * 3 + "我们看看这个数组。"])
@pytest.mark.parametrize("after", ["", "\nNow to something else. " + REAL])
def test_a_loop_is_found_at_any_place(before: str, loop: str, after: str) -> None:
    assert find_any_loop(before + loop + after) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        REAL,
        "\n".join(f"{REAL} step {n}" for n in range(30)),
        "Wait, let me check. " * 7,
        "dp = [" + "0, " * 60 + "0]",
        "| 0 | 1 | 2 |\n|---|---|---|\n" + "| 0 | 0 | 0 |\n" * 12,
        "\n".join(f"dp[{n}] = dp[{n - 1}] + dp[{n - 2}] = {n * n}" for n in range(2, 60)),
        "好的，我们来看第一个数。" + "".join(f"第{n}个数是{n * n}，" for n in range(80)),
        "-" * 100,
    ],
)
def test_short_repetitions_are_not_a_loop(text: str) -> None:
    assert find_any_loop(text) is None


@given(
    st.lists(st.sampled_from(["so", "we", "add", "x", "1", "=", "然后"]), min_size=3, max_size=12),
    st.integers(min_value=9, max_value=12),
    st.text(alphabet="ab c\n", max_size=300),
    st.text(alphabet="ab c\n", max_size=300),
)
def test_a_loop_at_the_end_is_also_found_in_the_complete_text(
    phrase: list[str], times: int, before: str, after: str
) -> None:
    loop = " ".join(phrase) + " "
    text = f"{before} {loop * times}"
    if any(char.isalpha() for char in loop) and len(loop) * times < 900:
        assert find_loop(text + "end") is not None
        assert find_any_loop(f"{text} {after}") is not None


@given(
    st.integers(min_value=3, max_value=50),
    st.integers(min_value=0, max_value=120),
    st.integers(min_value=0, max_value=120),
)
def test_eight_repetitions_of_a_phrase_are_a_loop_at_any_place(
    size: int, before: int, after: int
) -> None:
    def around(times: int) -> str:
        phrase = [f"word{n}" for n in range(size)]
        ahead, behind = (
            [f"{side}{n}" for n in range(m)] for side, m in (("a", before), ("b", after))
        )
        return " ".join([*ahead, *phrase * times, *behind])

    assert find_any_loop(around(8)) is not None
    assert find_any_loop(around(7)) is None


@needs_data
def test_requests_for_code_in_real_problems() -> None:
    contests = [row["prompt"] for row in rows_of("ojbench_prompts_5.jsonl")]
    functions = [row["prompt"] for row in rows_of("HumanEval.jsonl.gz")]
    sums = [row["question"] for row in rows_of("gsm8k_test.jsonl")]
    assert [text[:50] for text in (*contests, *functions) if asks_for_code(text) is None] == []
    assert [text for text in sums if asks_for_code(text) is not None] == []


@pytest.mark.parametrize(
    "problem",
    [
        "Write a Python function to find the n-th Fibonacci number.",
        "Implement quicksort in C++.",
        "Solve this problem using Java.",
        "Write a function that returns the longest palindromic substring.",
        "Write a program that reads two integers and prints their sum.",
        "Given an array of integers, complete the function `two_sum`.",
        "Complete the method maxProfit(prices: List[int]) below.",
        "A tree.\n\nInput\nThe first line contains one integer n.\n\nOutput\nPrint a number.",
        "class Solution {\npublic:\n    int area(vector<int>& height) {\n        \n    }\n};",
        "Fill this in:\n```python\ndef area(height):\n    # your solution\n```",
        "Write an SQL query to find the second highest salary.",
        "Please write code that sorts a list.",
        "What is the fastest way to sort? Provide your code.",
        "How can I write a Python function that sorts a list?",
        "Please reason step by step and put your final code in ```cpp.",
        "Develop a program that reads two integers.",
        "I need a Java method that reverses a string.",
    ],
)
def test_a_problem_that_asks_for_code_needs_a_code_block(problem: str) -> None:
    request = asks_for_code(problem)
    assert request is not None
    assert without_code(problem, "One sorts. def f(x): return x") is not None
    assert without_code(problem, "```python\n\n```") is not None
    assert request in (without_code(problem, "```python\nprint(1)") or "")
    assert without_code(problem, "So:\n```python\nprint(1)\n```\nDone.") is None


@pytest.mark.parametrize(
    "problem",
    [
        "Write a function f(x) = mx + b that represents the cost of a taxi ride.",
        "Write the function $f(x) = x^2 - 4x$ in vertex form.",
        "Give a function $f:\\mathbb{R}\\to\\mathbb{R}$ that is continuous nowhere.",
        "Create a program of exercises for 5 days that burns 200 kcal.",
        "The door code is 4312. How many codes are there?",
        "Find all functions f such that f(x+y) = f(x) + f(y).",
        "The area code of the city is 512. Write the code in words.",
        "What does this program print?\n```python\ndef f(x):\n    return x\nprint(f(2))\n```",
        "Explain what the following function does:\ndef f(x):\n    pass",
        "A python is 5 m long. How long are 3 pythons in a row?",
        "Using a ruby worth $300, give the price of 3.",
        "写出函数 y=2x+1 的反函数。",
        "编写一个程序，计算两个整数的和。",
        "Schreibe eine Funktion, die eine Liste sortiert.",
        "Compute 2 * 7 - 9 * 8 from left to right, modulo ten.",
        "How would you sort a list without writing code?",
        "Why is my Python function so slow?",
        "Is Python code compiled or interpreted?",
        "What is the difference between a Java method and a Java class?",
        "Develop a training program that improves strength in 5 weeks.",
        "Design a program to reduce waste in a city.",
        "How long does Tom need to build a wall with Julia?",
    ],
)
def test_a_problem_that_does_not_ask_for_code_needs_no_code_block(problem: str) -> None:
    assert asks_for_code(problem) is None
    assert without_code(problem, "It is 4.") is None
    assert without_code(problem, "It is 4.", required=True) is not None
    assert without_code(problem, "```\n4\n```", required=True) is None


def test_split_fences_returns_blocks_and_prose() -> None:
    parts = split_fences("a\n```py\nb\n```\nc\n~~~\nd\n```\n~~~\n`inline`\n```\ne")
    assert parts.blocks == ("b\n", "d\n```\n")
    assert parts.open == "e"
    assert parts.prose == "a\nc\n`inline`"


ENGLISH = "How many rocks are left if we remove three of the ten rocks in the river?"
CHINESE = "河里有十块石头，如果拿走三块，还剩下多少块石头？请给出计算过程。"
CHINESE_THINKING = "好的，我们来看这个问题。一共有十块石头，拿走三块，所以剩下七块。"
RUSSIAN = "Хорошо, давайте посмотрим. Всего десять камней, три убрали, значит осталось семь камней."
WITH_TERMS = "我们用 DP 和 BFS 来解决：设 $dp[i]$ 为前 $i$ 项的最大值，复杂度是 $O(n \\log n)$。"


@pytest.mark.parametrize(
    ("problem", "text", "script"),
    [
        (ENGLISH, REAL + CHINESE_THINKING, "Chinese"),
        (ENGLISH, REAL * 4 + CHINESE_THINKING, "Chinese"),
        (ENGLISH, RUSSIAN, "Cyrillic"),
        (
            ENGLISH,
            "알겠습니다. 돌이 열 개 있고 세 개를 빼면 일곱 개가 남습니다. 그래서 답은 일곱 개",
            "Hangul",
        ),
        (CHINESE, REAL, "Latin"),
        (RUSSIAN, REAL, "Latin"),
        (CHINESE, RUSSIAN, "Cyrillic"),
    ],
)
def test_a_switch_of_script_is_found(problem: str, text: str, script: str) -> None:
    detail = language_switch(problem, text)
    assert detail is not None
    assert script in detail


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (ENGLISH, REAL),
        (ENGLISH, REAL + " (石头)"),
        (ENGLISH, REAL + "\n```python\n# 这里我们计算石头的数量然后输出结果\nprint(7)\n```"),
        (ENGLISH, REAL + " so α + β = $θ$ and Σ is 7, naïve café"),
        (CHINESE, CHINESE_THINKING),
        (CHINESE, WITH_TERMS),
        (CHINESE, CHINESE_THINKING + "\n```python\n" + REAL * 3 + "\n```"),
        (CHINESE, "$$" + REAL * 3 + "$$"),
        ("Translate into Chinese: I have ten rocks.", CHINESE_THINKING),
        ("What is 'rock' in Russian?", RUSSIAN),
        ("用英文回答：石头是什么？", REAL),
        ("2 + 2 = ?", CHINESE_THINKING),
        (ENGLISH, ""),
    ],
)
def test_a_text_in_the_expected_script_passes(problem: str, text: str) -> None:
    assert language_switch(problem, text) is None


def test_english_letters_do_not_name_a_language() -> None:
    problem = "Given a string of lowercase English letters, find its longest palindrome."
    assert language_switch(problem, CHINESE_THINKING) is not None


def test_words_are_counted_by_script() -> None:
    assert shares("abc def `code` $x$ 好的") == ({"Latin": 0.5, "Chinese or Japanese": 0.5}, 4)
    assert shares("1 + 1") == ({}, 0)


@needs_data
def test_real_answers_pass() -> None:
    checks: list[Callable[[str, str], str | None]] = [
        lambda _, answer: truncated(answer),
        lambda _, answer: empty(answer),
        lambda _, answer: find_any_loop(answer),
        without_code,
        chat_markers,
        language_switch,
    ]
    pairs = [(row["question"], row["answer"]) for row in rows_of("gsm8k_test.jsonl")]
    pairs += [(problem, answer.split("####")[0]) for problem, answer in pairs]
    pairs += [
        (row["prompt"], f"So:\n\n```python\n{row['prompt']}{row['canonical_solution']}```\n")
        for row in rows_of("HumanEval.jsonl.gz")
    ]
    found = [check(*pair) for check in checks for pair in pairs]
    assert [detail for detail in found if detail] == []
