import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tessy.core.errors import BadRowsError, ConfigError, InputError
from tessy.storage.problems import load_problems

HASH_OF_Q = hashlib.sha256(b'[["user", "q"]]').hexdigest()[:16]
HASH_OF_R = hashlib.sha256(b'[["user", "r"]]').hexdigest()[:16]
SYSTEM = {"role": "system", "content": "s"}
QA = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(tmp_path: Path, rows, **options):
    return load_problems(write(tmp_path / "in.jsonl", rows), **options)


def one(tmp_path: Path, row, **options):
    (problem,) = load(tmp_path, [row], **options).problems
    return problem


def fault(tmp_path: Path, row, **options):
    with pytest.raises(BadRowsError) as caught:
        load(tmp_path, [row], **options)
    (found,) = caught.value.faults
    return found


def test_all_bad_rows_are_raised_together_with_file_line_and_field(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(
        b'{"prompt": "fine"}\n'
        b"\n"
        b'{"prompt": "torn\n'
        b"[1]\n"
        b'{"id": "", "prompt": 7}\n'
        b'{"id": "x", "prompt": "\xff"}\n'
    )
    with pytest.raises(BadRowsError) as caught:
        load_problems(path)
    assert [(f.file, f.line, f.field) for f in caught.value.faults] == [
        (str(path), 3, "(line)"),
        (str(path), 4, "(row)"),
        (str(path), 5, "id"),
        (str(path), 6, "(line)"),
    ]
    assert "expected" in caught.value.faults[0].message
    assert "column" in caught.value.faults[0].message
    assert "not UTF-8" in caught.value.faults[3].message
    kept = load_problems(path, skip_bad_rows=True)
    assert kept.faults == caught.value.faults
    assert [problem.messages[0].content for problem in kept.problems] == ["fine"]


def test_skipping_every_row_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no usable row; the first of 2"):
        load(tmp_path, [{"prompt": ""}, {"prompt": 1}], skip_bad_rows=True)


@pytest.mark.parametrize("name", ["messages", "dialogs", "conversations", "prompt"])
def test_turns(tmp_path, name):
    turns = [
        {"role": "system", "content": "Be brief."},
        *QA,
        {
            "role": "user",
            "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "how?"}],
        },
        {"role": "assistant", "content": "So."},
    ]
    problem = one(tmp_path, {name: turns, "tag": 1})
    assert [(m.role, m.content) for m in problem.messages] == [
        ("system", "Be brief."),
        ("user", "Why?"),
        ("assistant", "Because."),
        ("user", "And\nhow?"),
    ]
    assert problem.extra == {"tag": 1, "reference": "So."}


def test_sharegpt_turns(tmp_path):
    turns = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a"},
    ]
    problem = one(tmp_path, {"conversations": turns})
    assert [(m.role, m.content) for m in problem.messages] == [("system", "s"), ("user", "q")]
    assert problem.extra == {"reference": "a"}


def test_the_last_assistant_turn_is_the_reference(tmp_path):
    turns = [QA[0], *({"role": "assistant", "content": reply} for reply in ("First.", "Second."))]
    assert one(tmp_path, {"messages": turns}).extra == {"reference": "Second."}


def test_a_reply_that_is_a_sentence_is_not_a_reference(tmp_path):
    reply = {"role": "assistant", "content": "Sure! That makes nine (9)."}
    assert one(tmp_path, {"messages": [QA[0], reply]}).extra == {
        "reference_turn": "Sure! That makes nine (9)."
    }


def test_a_reply_is_not_a_reference_beside_another_one(tmp_path):
    extra = one(tmp_path, {"messages": QA, "answer": 7}).extra
    assert extra == {"answer": 7, "reference_turn": "Because."}


def test_a_reference_field_is_kept_next_to_the_turn(tmp_path):
    problem = one(tmp_path, {"messages": QA, "reference": None})
    assert problem.extra == {"reference": None, "reference_turn": "Because."}


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({}, "prompt", "expected prompt or messages, got nothing"),
        ({"question": "q"}, "prompt", "got question"),
        ({"prompt": None}, "prompt", "expected prompt"),
        ({"prompt": " \n"}, "prompt", "empty"),
        ({"prompt": 3}, "prompt", "expected text, got int"),
        ({"prompt": "a\ud800"}, "prompt", "surrogate at 1"),
        ({"prompt": "q", "messages": QA}, "messages", "prompt and messages"),
        ({"messages": []}, "messages", "user turn"),
        ({"messages": {"role": "user"}}, "messages", "expected a list of turns, got an object"),
        ({"messages": "hello"}, "messages", "expected a list of turns, got text"),
        ({"messages": QA[1:]}, "messages", "user turn"),
        ({"messages": [*QA, "x"]}, "messages[2]", "got text"),
        ({"messages": [{"content": "x"}]}, "messages[0]", "expected a role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'tool'"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role", "expected one"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "got null"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages", "empty"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]},
            "messages[0].content[0]",
            "image_url",
        ),
        ({"prompt": "q", "tools": [{"name": "search"}]}, "tools", "--fields tools="),
        ({"prompt": "q", "input": {"stdin": "3"}}, "input", "--fields input="),
        ({"prompt": "q", "system": ["s"]}, "system", "a system turn, got a list"),
        ({"messages": [SYSTEM, *QA], "system": "t"}, "system", "beside a system turn"),
        ({"messages": [*QA[:1], SYSTEM]}, "messages", "no system turn after"),
        ({"messages": [{**QA[0], "tool_calls": ["f"]}]}, "messages[0].tool_calls", "not see"),
        ({"messages": [{**QA[0], "images": ["i"]}]}, "messages[0].images", "not see"),
        ({"prompt": "q", "image": "a.png"}, "image", "--fields tools="),
        ({"prompt": "Which?", "choices": ["red", "blue"]}, "choices", "lacks 'red'"),
        ({"prompt": "Which?", "choices": {"text": ["red"], "label": ["A"]}}, "choices", "'red'"),
        ({"messages": QA, "input": "7"}, "input", "beside turns"),
        ({"prompt": "q", "id": ""}, "id", "empty"),
        ({"prompt": "q", "id": "a\nb"}, "id", "control"),
        ({"prompt": "q", "id": "a\x00"}, "id", "control"),
        ({"prompt": "q", "id": "a\u2028"}, "id", "control"),
        ({"prompt": "q", "id": "a\ud800"}, "id", "control"),
        ({"prompt": "q", "id": True}, "id", "bool"),
        ({"prompt": "q", "id": 1.5}, "id", "float"),
        ({"prompt": "q", "id": ["a"]}, "id", "a list"),
    ],
)
def test_bad_rows(tmp_path, row, field, message):
    found = fault(tmp_path, row)
    assert (found.line, found.field) == (1, field)
    assert message in found.message


@pytest.mark.parametrize("name", ["input", "context"])
def test_the_input_of_an_instruction_follows_it(tmp_path, name):
    row = {"instruction": "Work it out.", name: "7 + 2"}
    problem = one(tmp_path, row, fields={"prompt": "instruction"})
    assert problem.messages[0].content == "Work it out.\n\n7 + 2"
    assert problem.extra == {}
    repeated = {"prompt": "Work it out.\n7 + 2", name: "7 + 2"}
    assert one(tmp_path, repeated).messages[0].content == "Work it out.\n7 + 2"
    part = {"prompt": "Translate the word into French.", name: "the"}
    assert one(tmp_path, part).messages[0].content.endswith("French.\n\nthe")
    left_out = one(tmp_path, {"prompt": "q", name: "7 + 2"}, fields={"input": ""})
    assert (left_out.messages[0].content, left_out.extra) == ("q", {name: "7 + 2"})


def test_empty_fields_add_nothing(tmp_path):
    row = {"prompt": "q", "input": " ", "system": "", "context": None, "tools": "[]"}
    assert [turn.content for turn in one(tmp_path, row).messages] == ["q"]


def test_choices_in_the_prompt_are_no_fault(tmp_path):
    row = {"prompt": "Which? (A) red (B) blue", "options": {"A": "red", "B": "blue"}}
    assert one(tmp_path, row).extra == {"options": row["options"]}


@pytest.mark.parametrize("name", ["system", "system_prompt"])
@pytest.mark.parametrize("rest", [{"prompt": "Why?"}, {"messages": QA}])
def test_a_system_field_becomes_the_first_turn(tmp_path, name, rest):
    problem = one(tmp_path, {name: "Be brief.", **rest})
    assert [(turn.role, turn.content) for turn in problem.messages] == [
        ("system", "Be brief."),
        ("user", "Why?"),
    ]
    assert name not in problem.extra


def test_a_field_may_be_a_path(tmp_path):
    row = {"data": {"question": "q"}, "reward_model": {"ground_truth": 7}, "a.b": "x"}
    names = {"prompt": "data.question", "reference": "reward_model.ground_truth", "id": "a.b"}
    problem = one(tmp_path, row, fields=names)
    assert (problem.id, problem.messages[0].content) == ("x", "q")
    assert problem.extra == {key: row[key] for key in row if key != "a.b"} | {"reference": 7}


def test_a_mapped_reference_beside_another_one_is_a_bad_row(tmp_path):
    row = {"prompt": "q", "reference": "8", "gold": "7"}
    assert fault(tmp_path, row, fields={"reference": "gold"}).field == "reference"
    assert fault(tmp_path, {"prompt": "q"}, fields={"reference": "gold"}).field == "gold"


def test_field_map(tmp_path):
    row = {"task_id": 7, "question": "q", "id": "other", "prompt": "not this"}
    problem = one(tmp_path, row, fields={"prompt": "question", "id": "task_id"})
    assert (problem.id, problem.messages[0].content) == ("7", "q")
    assert problem.extra == {"id": "other", "prompt": "not this"}
    assert one(tmp_path, {"chat": QA}, fields={"messages": "chat"}).extra["reference"] == "Because."


def test_a_mapped_field_must_exist(tmp_path):
    assert fault(tmp_path, {"prompt": "q"}, fields={"prompt": "question"}).field == "question"
    assert fault(tmp_path, {"prompt": "q"}, fields={"id": "task_id"}).field == "task_id"


@pytest.mark.parametrize("fields", [{"promt": "q"}, {"prompt": "a", "messages": "b"}])
def test_a_wrong_field_map_is_refused(tmp_path, fields):
    with pytest.raises(ConfigError, match="fields: "):
        load(tmp_path, [{"prompt": "q"}], fields=fields)


def test_other_fields_are_copied_unchanged(tmp_path):
    extra = {"n": {"deep": [1, None, {"x": 2**70}]}, "text": "half \ud800", "f": 0.1, "b": False}
    assert one(tmp_path, {"prompt": "q", **extra}).extra == extra


def test_ids_come_from_the_row_or_the_messages(tmp_path):
    rows = [{"prompt": "q"}, {"prompt": "r", "id": 12}, {"prompt": "s", "id": None}]
    ids = [problem.id for problem in load(tmp_path, rows).problems]
    assert ids[:2] == [HASH_OF_Q, "12"]
    assert len(ids[2]) == 16
    assert ids[2] != ids[0]
    with_turns = [{"messages": [{"role": "user", "content": "q"}, QA[1]]}]
    assert load(tmp_path, with_turns).problems[0].id == ids[0]


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        (["x:q", "x:q", "x:q"], ["x", "x#2", "x#3"]),
        ([":q", ":r", ":q"], [HASH_OF_Q, HASH_OF_R, HASH_OF_Q + "#2"]),
        ([":q", f"{HASH_OF_Q}:q"], [HASH_OF_Q, HASH_OF_Q + "#2"]),
        (["x#2:q", "x:q", "x:q"], ["x#2", "x", "x#3"]),
        (["x:q", "x:q", "x#2:q"], ["x", "x#2", "x#2#2"]),
        (["x#2:r", "x:q", "x:q"], ["x#2", "x", "x#3"]),
        (["x#2:q", "x#2:q"], ["x#2", "x#2#2"]),
    ],
)
def test_ids_of_repeated_problems(tmp_path, asked, ids):
    rows = []
    for text in asked:
        name, prompt = text.split(":")
        rows.append({"prompt": prompt, **({"id": name} if name else {})})
    found = [problem.id for problem in load(tmp_path, rows).problems]
    assert found == ids


@pytest.mark.parametrize("last", [{"id": "x", "prompt": "r"}, {"id": "x#2", "prompt": "r"}])
def test_an_id_of_another_problem_is_a_bad_row(tmp_path, last):
    rows = [{"id": "x", "prompt": "q"}, {"id": "x", "prompt": "q"}, last]
    with pytest.raises(BadRowsError) as caught:
        load(tmp_path, rows)
    (found,) = caught.value.faults
    assert (found.line, found.field) == (3, "id")
    assert "another problem at" in found.message


@pytest.mark.parametrize("bad", [{"id": ""}, {"id": 1.5}, {"id": "a\nb"}])
def test_a_row_with_a_bad_id_reserves_no_id(tmp_path, bad):
    rows = [{"prompt": "q", **bad}, {"prompt": "q"}, {"prompt": "q"}]
    found = load(tmp_path, rows, skip_bad_rows=True)
    assert [problem.id for problem in found.problems] == [HASH_OF_Q, HASH_OF_Q + "#2"]
    assert [(f.line, f.field) for f in found.faults] == [(1, "id")]


def test_a_row_without_a_problem_reserves_no_id(tmp_path):
    rows = [{"id": "x", "prompt": ""}, {"id": "x", "prompt": "q"}]
    found = load(tmp_path, rows, skip_bad_rows=True)
    assert [problem.id for problem in found.problems] == ["x"]


ROW = st.fixed_dictionaries(
    {"prompt": st.sampled_from(["", "q", "r"])},
    optional={"id": st.sampled_from(["x", "x#2", "x#3", "x#2#2", "y", 1, ""])},
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(ROW, max_size=12), st.lists(ROW, max_size=6))
def test_appended_rows_change_no_key(tmp_path, rows, more):
    good = {"id": "good", "prompt": "good"}
    before = load(tmp_path, [good, *rows], skip_bad_rows=True)
    after = load(tmp_path, [good, *rows, *more], skip_bad_rows=True)
    assert after.problems[: len(before.problems)] == before.problems
    assert after.faults[: len(before.faults)] == before.faults
    ids = [problem.id for problem in after.problems]
    assert len(set(ids)) == len(ids)
    assert len(ids) + len({f.line for f in after.faults}) == 1 + len(rows) + len(more)


def test_repeating_a_problem_takes_linear_time(tmp_path):
    ids = [problem.id for problem in load(tmp_path, [{"id": "x", "prompt": "q"}] * 5_000).problems]
    assert ids[-1] == "x#5000"
    assert len(set(ids)) == 5_000
