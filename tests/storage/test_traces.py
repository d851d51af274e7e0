"""Traces from the common public shapes of rows, and from runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tessy.answers.references import reference_of
from tessy.core.errors import BadRowsError, ConfigError, InputError
from tessy.core.records import Problem, StyleSpan, TeacherTrace
from tessy.storage.problems import load_problems
from tessy.storage.traces import load_traces
from tests.support.sft_runs import sample as row_of

MARKED = "<think>\nHmm, 3 + 4 = 7.\n</think>\n\nIt is 7."
USER = {"role": "user", "content": "3 + 4?"}
SHAPES: dict[str, Any] = {
    "messages": {"messages": [USER, {"role": "assistant", "content": MARKED}]},
    "OpenR1": {
        "problem": "3 + 4?",
        "solution": "Add them.",
        "generations": [MARKED, "<think>other</think>8"],
    },
    "OpenThoughts": {
        "system": "Think.",
        "conversations": [
            {"from": "user", "value": "3 + 4?"},
            {
                "from": "assistant",
                "value": "<|begin_of_thought|>\n\nHmm, 3 + 4 = 7.\n\n<|end_of_thought|>\n\n"
                "<|begin_of_solution|>\n\nIt is 7.\n\n<|end_of_solution|>",
            },
        ],
    },
    "Nemotron": {"input": [USER], "output": MARKED, "reasoning": "on", "category": "math"},
    "Nemotron with text": {"input": "3 + 4?", "output": MARKED, "reasoning": "on"},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "3 + 4?"}, {"from": "gpt", "value": MARKED}]
    },
    "reasoning of the turn": {
        "messages": [
            USER,
            {"role": "assistant", "content": "It is 7.", "reasoning_content": "Hmm, 3 + 4 = 7."},
        ]
    },
    "reasoning of the row": {
        "prompt": "3 + 4?",
        "thinking": "Hmm, 3 + 4 = 7.",
        "response": "It is 7.",
    },
    "the prompt opens the thinking": {
        "prompt": "3 + 4?",
        "completion": "Hmm, 3 + 4 = 7.\n</think>\n\nIt is 7.<|im_end|>",
    },
    "a first generation without text": {"problem": "3 + 4?", "generations": ["", MARKED]},
    "OpenMathReasoning": {"problem": "3 + 4?", "generated_solution": MARKED},
    "TRL": {"prompt": [USER], "completion": [{"role": "assistant", "content": MARKED}]},
    "Mistral": {"prompt": "3 + 4?", "response": "[THINK]Hmm, 3 + 4 = 7.[/THINK]It is 7."},
    "harmony": {
        "prompt": "3 + 4?",
        "response": "<|channel|>analysis<|message|>Hmm, 3 + 4 = 7.<|end|><|start|>assistant"
        "<|channel|>final<|message|>It is 7.<|return|>",
    },
    "parts": {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hmm, 3 + 4 = 7."},
                    {"type": "text", "text": "It is 7."},
                ],
            },
        ]
    },
}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only(path: Path, **options: Any) -> Problem:
    (problem,) = load_traces(path, **options).problems
    return problem


@pytest.mark.parametrize("name", SHAPES)
def test_the_common_shapes_of_public_data_sets_are_read(tmp_path, name):
    problem = only(written(tmp_path, SHAPES[name]))
    assert problem.trace == TeacherTrace(thinking="Hmm, 3 + 4 = 7.", answer="It is 7.")
    assert problem.messages[-1].content == "3 + 4?"
    assert [turn.role for turn in problem.messages] == (
        ["system", "user"] if name == "OpenThoughts" else ["user"]
    )
    # The response is not repeated in the row.
    assert "Hmm" not in json.dumps(problem.extra)
    assert "reference" not in problem.extra


def generation(name: str) -> str:
    return f"<think>{name}</think>{name}"


VERDICTS = ("correctness_math_verify", "correctness_llama", "is_reasoning_complete")
# A row of OpenR1-Math-220k: the turn repeats the first generation, which is wrong.
OPENR1: dict[str, Any] = {
    "problem": "3 + 4?",
    "solution": "Add them.",
    "answer": "7",
    "problem_type": "Algebra",
    "question_type": "math-word-problem",
    "source": "made up",
    "uuid": "0-0",
    "is_reasoning_complete": [True, True],
    "generations": [generation("a"), generation("b")],
    "correctness_math_verify": [False, True],
    "correctness_llama": None,
    "finish_reasons": ["stop", "stop"],
    "correctness_count": 1,
    "messages": [USER, {"role": "assistant", "content": generation("a")}],
}


@pytest.mark.parametrize("response", [{}, {"response": "generations"}])
@pytest.mark.parametrize("prompt", [{}, {"prompt": "problem"}])
@pytest.mark.parametrize("turns", [OPENR1["messages"], [USER]])
def test_the_verdicts_of_openr1_take_precedence_over_its_turns(tmp_path, turns, prompt, response):
    row = OPENR1 | {"messages": turns}
    problem = only(written(tmp_path, row), fields=prompt | response)
    assert problem.trace == TeacherTrace(thinking="b", answer="b")
    assert [turn.content for turn in problem.messages] == ["3 + 4?"]
    taken = "problem" if prompt else "messages"
    kept = {name: row[name] for name in row if name not in (taken, "generations")}
    assert problem.extra == kept | ({"messages": [USER]} if taken == "problem" else {})


def test_a_turn_is_the_response_beside_generations_without_verdicts(tmp_path):
    row = OPENR1 | dict.fromkeys(VERDICTS)
    assert only(written(tmp_path, row)).trace == TeacherTrace(thinking="a", answer="a")


@pytest.mark.parametrize(
    ("generations", "verdicts", "chosen"),
    [
        ("ab", {"is_reasoning_complete": [False, True]}, "b"),
        ("abc", {VERDICTS[0]: [True, None, True], VERDICTS[2]: [False, None, True]}, "c"),
        (["<think>a", generation("b")], {VERDICTS[0]: [True, None]}, "b"),
        (["<think>a", generation("b")], {}, "b"),
    ],
)
def test_incomplete_generations_are_skipped(tmp_path, generations, verdicts, chosen):
    texts = generations if isinstance(generations, list) else [*map(generation, generations)]
    row = {"problem": "3 + 4?", "generations": texts, **verdicts}
    assert only(written(tmp_path, row)).trace == TeacherTrace(thinking=chosen, answer=chosen)


def test_generations_beside_a_thinking_need_no_markers(tmp_path):
    row = {"problem": "3 + 4?", "generations": ["", "It is 7."], "reasoning": "Hmm, 3 + 4 = 7."}
    expected = TeacherTrace(thinking="Hmm, 3 + 4 = 7.", answer="It is 7.")
    assert only(written(tmp_path, row)).trace == expected


def test_verdicts_are_on_generations_only(tmp_path):
    row = OPENR1 | {"r1": [generation("c"), generation("d")], VERDICTS[0]: [False, "x", True]}
    problem = only(written(tmp_path, row), fields={"response": "r1"})
    assert problem.trace == TeacherTrace(thinking="c", answer="c")
    assert problem.extra["generations"] == OPENR1["generations"]


@pytest.mark.parametrize(
    ("math_verify", "llama", "chosen"),
    [
        ([False, True, True], None, "b"),
        ([False, False, False], [False, None, True], "c"),
        ([None, False, True], [None, True, None], "b"),
        ([False, None, None], [], "b"),
        (None, None, "a"),
    ],
)
def test_the_first_generation_that_is_marked_correct_is_taken(tmp_path, math_verify, llama, chosen):
    texts = [*map(generation, "abc")]
    verdicts = dict(zip(VERDICTS, (math_verify, llama, None), strict=True))
    problem = only(written(tmp_path, {"problem": "3 + 4?", "generations": texts, **verdicts}))
    assert problem.trace == TeacherTrace(thinking=chosen, answer=chosen)
    assert problem.extra.items() >= verdicts.items()


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        ({VERDICTS[0]: [None, False]}, "generations: .* wrong; 0 without .*, 1 marked wrong"),
        ({VERDICTS[2]: [True, False]}, "generations: .* wrong; 1 without .*, 0 marked wrong"),
        ({VERDICTS[0]: [None, "false"]}, r"verify\[1\]: expected true, false or null, got 'false'"),
        ({VERDICTS[2]: [1, True]}, r"complete\[0\]: expected true, false or null, got 1"),
        ({"correctness_llama": [True]}, "correctness_llama: .* each of 2, got a list of 1"),
        ({"correctness_llama": "yes"}, "correctness_llama: .* each of 2, got text"),
    ],
)
def test_generations_without_a_usable_verdict_are_a_bad_row(tmp_path, verdicts, message):
    path = written(tmp_path, {"problem": "3 + 4?", "generations": ["", MARKED], **verdicts})
    with pytest.raises(BadRowsError, match=message):
        load_traces(path)


OTHER = "<think>another</think>8"


@pytest.mark.parametrize(
    ("name", "more", "kept"),
    [
        ("r1", {"r1": MARKED}, {}),
        ("r1", {"r1": MARKED, "response": OTHER}, {"response": OTHER}),
        ("r1", {"r1": ["", MARKED]}, {}),
        ("r1", {"r1": "It is 7.", "reasoning": "Hmm, 3 + 4 = 7."}, {}),
        ("r.1", {"r.1": MARKED, "r": {"1": "x"}}, {"r": {"1": "x"}}),
        ("out.text", {"out": {"text": MARKED}}, {"out": {}}),
        ("out.text", {"out": {"text": MARKED, "n": 1}}, {"out": {"n": 1}}),
        ("out.0", {"out": [MARKED, OTHER]}, {"out": [None, OTHER]}),
        ("out.1", {"out": [OTHER, MARKED]}, {"out": [OTHER]}),
        ("a.0.b", {"a": [{"b": MARKED, "c": 1}, 2]}, {"a": [{"c": 1}, 2]}),
    ],
)
def test_a_field_of_the_response_can_be_mapped(tmp_path, name, more, kept):
    path = written(tmp_path, {"task": "3 + 4?", **more})
    problem = only(path, fields={"prompt": "task", "response": name})
    assert problem.trace == TeacherTrace(thinking="Hmm, 3 + 4 = 7.", answer="It is 7.")
    assert problem.messages[-1].content == "3 + 4?"
    assert problem.extra == kept
    with pytest.raises(BadRowsError, match=r"other: expected a response \(the field map names"):
        load_traces(path, fields={"prompt": "task", "response": "other"})


@pytest.mark.parametrize("response", ["chat.turns.1", "chat.turns.1.content"])
def test_a_turn_can_be_the_mapped_response(tmp_path, response):
    turns = SHAPES["messages"]["messages"]
    path = written(tmp_path, {"chat": {"turns": turns}})
    for mapped in ({"response": response}, {}):
        problem = only(path, fields={"messages": "chat.turns", **mapped})
        assert problem.trace == TeacherTrace(thinking="Hmm, 3 + 4 = 7.", answer="It is 7.")
        assert problem.extra == {"chat": {"turns": [USER]}}
    path = written(tmp_path, {"chat": {"turns": [*turns, USER]}})
    problem = only(path, fields={"messages": "chat.turns", "response": response})
    assert len(problem.messages) == 3


def test_the_expected_answer_of_openmathreasoning_can_be_the_reference(tmp_path):
    path = written(tmp_path, SHAPES["OpenMathReasoning"] | {"expected_answer": "7"})
    assert reference_of(only(path, fields={"reference": "expected_answer"}).extra) == "7"


def test_problems_have_no_mapped_response(tmp_path):
    path = written(tmp_path, {"prompt": "3 + 4?", "r1": MARKED})
    with pytest.raises(ConfigError, match="--fields: a problem has no response; leave"):
        load_problems(path, fields={"response": "r1"})


def test_other_fields_of_the_row_are_kept(tmp_path):
    row = SHAPES["messages"] | {"id": 12, "answer": "7", "source": "made up"}
    problem = only(written(tmp_path, row))
    assert (problem.id, problem.extra) == ("12", {"answer": "7", "source": "made up"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "3 + 4?", "response": "It is 7."}, "response: expected a thinking between"),
        ({"prompt": "3 + 4?"}, "expected a thinking between"),
        ({"prompt": "3 + 4?", "response": "<think> </think>7"}, "expected a thinking between"),
        (
            SHAPES["messages"] | {"style_spans": [[0, 4], [2, 6]]},
            r"style_spans\[1\]: expected ascending spans \[start, end\] within the 15",
        ),
        (SHAPES["messages"] | {"style_spans": [[0, 99]]}, r"style_spans\[0\]: expected ascending"),
        (SHAPES["messages"] | {"style_spans": "0-4"}, "style_spans: expected a list of spans"),
    ],
)
def test_rows_without_a_usable_trace_are_bad(tmp_path, row, message):
    path = written(tmp_path, SHAPES["messages"], row)
    with pytest.raises(BadRowsError, match=rf"{path}:2: .*{message}"):
        load_traces(path)
    loaded = load_traces(path, skip_bad_rows=True)
    assert len(loaded.problems) == len(loaded.faults) == 1


@pytest.mark.parametrize("off", ["off", "on"])
@pytest.mark.parametrize(
    "row",
    [
        {"input": [USER], "output": "It is 7."},
        {"messages": [USER, {"role": "assistant", "content": "It is 7."}]},
    ],
)
def test_the_switch_of_nemotron_is_no_thinking(tmp_path, row, off):
    with pytest.raises(BadRowsError, match="expected a thinking between"):
        load_traces(written(tmp_path, row | {"reasoning": off}))


@pytest.mark.parametrize(
    "response",
    [
        "Sure. <think>3 + 4 = 7.</think>It is 7.",
        "<think>3 + 4 <think>= 7.</think></think>It is 7.",
        "<think>3 + 4 = 7.</think>\n<think>Yes.</think>It is 7.",
        "<think>3 + 4 = 7.<|im_end|></think>It is 7.",
        "<|channel|>analysis<|message|>3 + 4<|end|><|start|>assistant<|channel|>commentary"
        "<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>It is 7.",
    ],
)
def test_a_response_with_markers_at_other_places_is_a_bad_row(tmp_path, response):
    with pytest.raises(BadRowsError, match="expected one thinking at the start"):
        load_traces(written(tmp_path, {"prompt": "3 + 4?", "response": response}))


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("End it with </think> always.", "End it with </think> always."),
        ("<think>\n\n</think>\n\nIt is 7.", "It is 7."),
        (MARKED, "It is 7."),
    ],
)
def test_a_thinking_in_a_field_is_not_looked_for_in_the_answer(tmp_path, content, answer):
    turn = {"role": "assistant", "content": content, "reasoning_content": "Hmm, 3 + 4 = 7."}
    expected = TeacherTrace(thinking="Hmm, 3 + 4 = 7.", answer=answer)
    assert only(written(tmp_path, {"messages": [USER, turn]})).trace == expected
    row = {"prompt": "3 + 4?", "thinking": "Hmm, 3 + 4 = 7.", "response": content}
    assert only(written(tmp_path, row)).trace == expected


def test_all_markers_at_the_end_are_dropped(tmp_path):
    turn = SHAPES["OpenThoughts"]["conversations"][1]
    turns = [USER, {"role": "assistant", "content": turn["value"] + "<|im_end|>\n"}]
    trace = only(written(tmp_path, {"messages": turns})).trace
    assert trace is not None
    assert trace.answer == "It is 7."


@pytest.mark.parametrize("options", [{"split": "train"}, {"fields": {"prompt": "q"}}])
def test_options_on_files_are_refused_for_a_run(tmp_path, options):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="leave this option out"):
        load_traces(tmp_path, **options)


def test_samples_of_a_run_have_different_ids(tmp_path):
    (tmp_path / "config.json").write_text('{"schema": 1}', encoding="utf-8")
    with (tmp_path / "trajectories.jsonl").open("w", encoding="utf-8") as file:
        for name, sample in [("a", 0), ("a#2", 0), ("a", 1), ("a#2", 1)]:
            file.write(
                row_of(0).model_copy(update={"id": name, "sample": sample}).model_dump_json() + "\n"
            )
    problems = load_traces(tmp_path).problems
    assert [problem.id for problem in problems] == ["a", "a#2", "a#3", "a#2#2"]


@pytest.mark.parametrize("spans", [[[0, 4]], [{"start": 0, "end": 4}]])
def test_annotated_style_is_read(tmp_path, spans):
    problem = only(written(tmp_path, SHAPES["messages"] | {"style_spans": spans}))
    assert problem.trace is not None
    assert problem.trace.style == (StyleSpan(start=0, end=4),)
    assert "style_spans" not in problem.extra


def test_a_source_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="no run directory or folder"):
        load_traces(tmp_path / "run")
    with pytest.raises(InputError, match=r"traces\.jsonl does not exist"):
        load_traces(tmp_path / "traces.jsonl")


def test_two_traces_of_a_problem_have_two_ids(tmp_path):
    other = {"prompt": "3 + 4?", "response": "<think>7, I know.</think>7"}
    loaded = load_traces(written(tmp_path, SHAPES["Mistral"] | {"id": "a"}, other | {"id": "a"}))
    assert [problem.id for problem in loaded.problems] == ["a", "a#2"]
    assert len({problem.digest for problem in loaded.problems}) == 2


@pytest.mark.parametrize(
    ("answer", "more", "reference"),
    [
        ("So it is \\boxed{7}.", {}, "7"),
        ("So it is \\boxed{7}.", {"answer": "8"}, "8"),
        ("It depends on what is meant by it.", {}, None),
    ],
)
def test_the_answer_of_a_trace_is_the_reference_of_a_problem_without_one(
    tmp_path, answer, more, reference
):
    row = {"prompt": "3 + 4?", "response": f"<think>Hmm, 3 + 4 = 7.</think>{answer}", **more}
    assert reference_of(only(written(tmp_path, row)).extra) == reference
