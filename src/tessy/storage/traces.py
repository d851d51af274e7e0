r"""Responses of another model in input rows: a thinking, and the answer that follows it.

The response is the last assistant turn of the conversation, or else the row's field
``generations``, ``output``, ``response``, ``completion``, ``generation`` or ``generated_solution``;
a field map can name another field (``response=NAME``). Generations with verdicts take precedence
over the turn, which then is removed. Its thinking stands

- between markers in that text: ``<think>…</think>``, ``[THINK]…[/THINK]``, OpenThoughts'
  ``<|begin_of_thought|>…<|end_of_thought|>``, Gemma's or harmony's channels; or
- in a field ``reasoning_content``, ``reasoning`` or ``thinking`` of the turn or of the row (not
  Nemotron's ``on`` or ``off``).

In a list of texts, those without the end of a thinking are incomplete (unless the row has a field
with the thinking), and the first other one is used. The verdicts on ``generations`` are OpenR1's
lists: ``is_reasoning_complete`` marks incomplete ones. The first that ``correctness_math_verify``
or ``correctness_llama`` marks as correct is used, else the first that neither marks as wrong. A row
with only incomplete or wrong texts is a bad row.

A field ``style_spans`` holds the annotated style of the thinking: ``[start, end]`` or
``{"start": …, "end": …}``, in chars of the thinking without white space at its ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tessy.answers.references import reference_of
from tessy.core.errors import BadRowsError, ConfigError, InputError, RowFault
from tessy.core.records import Problem, StyleSpan, TeacherTrace, Trajectory
from tessy.storage.conversations import CONVERSATIONS, LIKELY, BadField, FieldMap, get, kind
from tessy.storage.problems import LoadedProblems, RowPlace, UnusableProblem, load_problems
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_trajectories

_GENERATIONS = "generations"
_RESPONSES = (
    _GENERATIONS,
    "output",
    "response",
    "completion",
    "generation",
    "generated_solution",  # OpenMathReasoning
)
# OpenR1: lists with a verdict on each generation; the last one is on its end.
_VERDICTS = ("correctness_math_verify", "correctness_llama", "is_reasoning_complete")
_THINKING = ("reasoning_content", "reasoning", "thinking")
_STYLE = "style_spans"
_PROMPTS = ("prompt", *CONVERSATIONS, *LIKELY)
_ASSISTANTS = ("assistant", "gpt")
_SWITCHES = ("on", "off")  # Nemotron: whether the model was to think
_MARKERS = (
    (r"<think>", r"</think>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>\s*(?:<\|begin_of_solution\|>)?"),
    (r"<\|channel>thought", r"<channel\|>"),
    (
        r"(?:<\|start\|>assistant)?<\|channel\|>analysis<\|message\|>",
        r"<\|end\|>(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>",
    ),
)
# Thinking, then what follows it.
_OPENED = tuple(
    re.compile(rf"\A\s*{opening}(?P<thinking>.*?){closing}(?P<answer>.*)\Z", re.DOTALL)
    for opening, closing in _MARKERS
)
# The opening marker stands in the prompt.
_UNOPENED = tuple(
    re.compile(rf"\A(?P<thinking>.*?){closing}(?P<answer>.*)\Z", re.DOTALL)
    for _, closing in _MARKERS
)
# Within a thinking they show that its ends were not understood.
_ANY_MARKER = re.compile(
    r"</?think>|\[/?THINK\]|<\|(?:begin|end)_of_(?:thought|solution)\|>|<\|channel\|?>|<channel\|>"
    r"|<\|(?:start|message|end|im_start|im_end)\|>"
)
_ENDS = re.compile(r"(?:(?:<\|end_of_solution\|>|<\|return\|>|<\|im_end\|>)\s*)+\Z")


class _Response(NamedTuple):
    """A response as a row has it: its text, and a thinking beside it."""

    field: str  # for messages
    text: str
    thinking: str


def load_traces(
    source: Path,
    *,
    split: str | None = None,
    fields: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    check: Callable[[Problem], UnusableProblem | None] = lambda problem: None,
) -> LoadedProblems:
    """Read problems with their traces, from a run directory or from input files.

    The arguments, errors and ids are those of :func:`~tessy.storage.problems.load_problems`; a row
    without a trace is bad.
    """
    if RunPaths(source).config.exists():
        _refuse_unread(source, {"split": split, "fields": fields})
        return _from_run(source, check=check, skip_bad_rows=skip_bad_rows)
    if not source.suffix and not source.exists():
        raise InputError(f"there is no run directory or folder {source}; check the path")
    return load_problems(
        source,
        split=split,
        fields=fields,
        skip_bad_rows=skip_bad_rows,
        likely_prompts=True,
        check=check,
        take_trace=_take_trace,
    )


def _refuse_unread(run: Path, options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value:
            raise ConfigError(f"--{name}: {run} is a run, which has none; leave this option out")


def _from_run(
    directory: Path,
    *,
    check: Callable[[Problem], UnusableProblem | None],
    skip_bad_rows: bool,
) -> LoadedProblems:
    """Return the trajectories of a run, as far as they have a thinking."""
    problems: list[Problem] = []
    faults: list[RowFault] = []
    places: list[RowPlace] = []
    names: set[str] = set()
    for number, row in enumerate(iter_trajectories(directory), 1):
        name = _free_name(row, names)
        names.add(name)
        place = RowPlace(str(directory), number)
        if not row.thinking:
            faults.append(RowFault(*place, "thinking", f"expected a thinking in the row {name!r}"))
            continue
        problem = Problem(
            id=name,
            messages=row.messages[:-1],
            extra=with_reference(row.problem, row.answer),
            trace=TeacherTrace(thinking=row.thinking, answer=row.answer),
        )
        unusable = check(problem)
        if unusable is not None:
            faults.append(RowFault(*place, *unusable))
            continue
        problems.append(problem)
        places.append(place)
    if faults and not skip_bad_rows:
        raise BadRowsError(faults)
    if not problems:
        raise InputError(f"{directory} has no finished sample; give a run with at least one")
    return LoadedProblems(tuple(problems), tuple(faults), tuple(places))


def _free_name(row: Trajectory, names: Collection[str]) -> str:
    """Return ``id`` or ``id#2``, ``id#3`` … for a sample; a problem of the run can have that id."""
    number = row.sample + 1
    name = row.id if number == 1 else f"{row.id}#{number}"
    while name in names:
        number += 1
        name = f"{row.id}#{number}"
    return name


def with_reference(extra: dict[str, Any], answer: str) -> dict[str, Any]:
    """Return a problem's fields with the trace's answer as reference, if they have none.

    A restyled sample is answered by the student, whose answer can then be compared with it.
    """
    if reference_of(extra) is not None or reference_of({"reference": answer}) is None:
        return extra
    return extra | {"reference" if "reference" not in extra else "reference_turn": answer}


def _take_trace(row: dict[str, Any], fields: FieldMap) -> TeacherTrace:
    """Remove the response from a row and return it; BadField if it has none with a thinking."""
    response = _response(row, fields)
    text = _ENDS.sub("", response.text)
    thinking, answer = response.thinking, text
    # Beside a field with the thinking, a closing marker alone is a word of the answer.
    patterns = _OPENED if thinking.strip() else (*_OPENED, *_UNOPENED)
    found = next(filter(None, (pattern.match(text) for pattern in patterns)), None)
    if found:
        thinking, answer = found["thinking"], found["answer"]
        if not thinking.strip():
            thinking = response.thinking
    if not thinking.strip():
        raise BadField(
            response.field,
            "expected a thinking between <think> and </think> (or other known markers), or in a "
            f"field {', '.join(_THINKING)}; found none",
        )
    if _ANY_MARKER.search(thinking) or any(pattern.match(answer) for pattern in _OPENED):
        raise BadField(
            response.field,
            "expected one thinking at the start of the response; found markers within it, or a "
            "second one after it",
        )
    if not fields.mapped.get("reference"):
        row.update(with_reference(row, answer.strip()))
    return TeacherTrace(
        thinking=thinking.strip(), answer=answer.strip(), style=_style(row, len(thinking.strip()))
    )


def _response(row: dict[str, Any], fields: FieldMap) -> _Response:
    """Return the response of a row; a whole response is removed from the row."""
    mapped = fields.mapped.get("response")
    turn = _assistant_turn(row, fields)
    marked = mapped in (None, "", _GENERATIONS) and any(row.get(column) for column in _VERDICTS)
    if mapped or marked:
        response = _response_in(row, mapped or _GENERATIONS, fields)
        if response is not None:
            if turn is not None and marked:
                get(row, turn[0]).pop()
            return response
        if mapped:
            raise BadField(mapped, "expected a response (the field map names this field), got none")
    if turn is not None:
        name, fields_of_turn = turn
        get(row, name).pop()  # its parts may be none that a turn of a problem can have
        content = fields_of_turn.get("content", fields_of_turn.get("value"))
        thinking = _first_text(fields_of_turn, _THINKING) or _take_thinking(row)
        return _Response(name, _text(name, content), thinking)
    if not fields.mapped and not any(row.get(name) is not None for name in _PROMPTS):
        row["prompt"] = row.pop("input", None)  # Nemotron: the turns, or the problem's text
    for name in _RESPONSES:
        response = _response_in(row, name, fields)
        if response is not None:
            return response
    return _Response("messages", _first_text(row, ("answer", "solution")), _take_thinking(row))


def _response_in(row: dict[str, Any], name: str, fields: FieldMap) -> _Response | None:
    """Return the response in a field or at a path; removes it. None without a response."""
    value = get(row, name)
    if isinstance(value, list):
        value = _chosen_response(row, name, value)
    if isinstance(value, Mapping):
        text = _text(name, value.get("content"))
        thinking = _first_text(value, _THINKING) or _take_thinking(row)
    elif isinstance(value, str) and value.strip():
        text, thinking = value, _take_thinking(row)
    else:
        return None
    _remove(row, name, fields)
    return _Response(name, text, thinking)


def _remove(row: dict[str, Any], name: str, fields: FieldMap) -> None:
    """Remove a field or the value at a path; before other items of a list, it becomes null."""
    if name in row:
        del row[name]
        return
    prompt = fields.prompt_name(row)
    if name.startswith(f"{prompt}."):  # a turn without its text would be none
        number = name.removeprefix(f"{prompt}.").split(".")[0]
        name = f"{prompt}.{number}"
        if number != str(len(get(row, prompt)) - 1):
            return
    parent, _, leaf = name.rpartition(".")
    owner = get(row, parent)
    if isinstance(owner, dict):
        del owner[leaf]
    elif int(leaf) == len(owner) - 1:
        del owner[-1]
    else:
        owner[int(leaf)] = None


def _chosen_response(row: Mapping[str, Any], name: str, values: Sequence[object]) -> object:
    """Return the assistant's turn of a list of turns, else one of its texts; None without any.

    Raises BadField if all texts are incomplete or marked wrong, or verdicts do not match them.
    """
    for value in reversed(values):
        if isinstance(value, Mapping) and value.get("role") in _ASSISTANTS:
            return value
    columns = _VERDICTS if name == _GENERATIONS else ()
    verdicts = [_verdicts(row, column, len(values)) for column in columns]
    beside = _take_thinking(dict(row))
    texts: dict[bool | None, list[str]] = {True: [], None: [], False: []}  # by verdict
    incomplete = 0
    for value, *given in zip(values, *verdicts, strict=True):
        if not isinstance(value, str) or not value.strip():
            continue
        *correct, complete = given or [None]
        if complete is False or not (beside or any(end.match(value) for end in _UNOPENED)):
            incomplete += 1
        else:
            texts[True if True in correct else False if False in correct else None].append(value)
    usable = texts[True] + texts[None]
    if not usable and (incomplete or texts[False]):
        raise BadField(
            name,
            "expected a text that has the end of its thinking and is not marked wrong; "
            f"{incomplete} without an end or marked incomplete, {len(texts[False])} marked wrong",
        )
    return next(iter(usable), None)


def _verdicts(row: Mapping[str, Any], column: str, count: int) -> Sequence[bool | None]:
    """Return the verdict on each of ``count`` generations: True, False, or None if unknown."""
    value = row.get(column)
    if value in (None, []):
        return [None] * count
    if not isinstance(value, list) or len(value) != count:
        got = f"a list of {len(value)}" if isinstance(value, list) else kind(value)
        raise BadField(column, f"expected a list with a verdict on each of {count}, got {got}")
    for number, verdict in enumerate(value):
        if not isinstance(verdict, bool | None):
            place = f"{column}[{number}]"
            raise BadField(place, f"expected true, false or null, got {verdict!r:.60}")
    return value


def _assistant_turn(
    row: Mapping[str, Any], fields: FieldMap
) -> tuple[str, Mapping[str, Any]] | None:
    """Return the name of the conversation and its last turn, if that is the assistant's."""
    for name in (fields.mapped.get("messages"), fields.mapped.get("prompt"), *CONVERSATIONS):
        turns = get(row, name) if name else None
        last = turns[-1] if isinstance(turns, list) and turns else None
        if name and isinstance(last, Mapping) and last.get("role", last.get("from")) in _ASSISTANTS:
            return name, last
    return None


def _take_thinking(row: dict[str, Any]) -> str:
    """Remove the first field with a thinking from a row and return it; empty without one."""
    for name in _THINKING:
        value = row.get(name)
        if isinstance(value, str) and value.strip() and value.strip() not in _SWITCHES:
            del row[name]
            return value
    return ""


def _first_text(row: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def _text(name: str, content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # parts, of which thinking parts are marked as such
        return "\n".join(_part(name, part) for part in content)
    raise BadField(name, f"expected the text of a response, got {kind(content)}")


def _part(name: str, part: object) -> str:
    if isinstance(part, Mapping):
        for field in ("thinking", "reasoning"):
            if isinstance(part.get(field), str):
                return f"<think>{part[field]}</think>"
        if isinstance(part.get("text"), str):
            return str(part["text"])
    if isinstance(part, str):
        return part
    raise BadField(name, f"expected text parts, got {kind(part)}")


def _style(row: dict[str, Any], length: int) -> tuple[StyleSpan, ...] | None:
    value = row.pop(_STYLE, None)
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadField(_STYLE, f"expected a list of spans, got {kind(value)}")
    spans: list[StyleSpan] = []
    before = 0
    for number, item in enumerate(value):
        ends: Any = [item.get("start"), item.get("end")] if isinstance(item, Mapping) else item
        usable = (
            isinstance(ends, list)
            and len(ends) == 2
            and all(type(end) is int for end in ends)
            and before <= ends[0] < ends[1] <= length
        )
        if not usable:
            raise BadField(
                f"{_STYLE}[{number}]",
                f"expected ascending spans [start, end] within the {length} characters of the "
                f"thinking, got {item!r:.60}",
            )
        spans.append(StyleSpan(start=ends[0], end=ends[1]))
        before = ends[1]
    return tuple(spans)
