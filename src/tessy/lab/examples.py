"""Training examples of the bundled models: complete chats in each model's own format.

Both models continue each other's text, so examples contain it; text that a model must not learn to
write is muted: it is part of the context, without a loss. After any thinking, a model answers in
its own style.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from transformers import PreTrainedTokenizerBase

from tessy.core.records import Author
from tessy.lab.corpus import SYSTEM_PROMPTS, small_talk
from tessy.lab.styles import STUDENT, TEACHER, Style, other_style
from tessy.lab.tasks import Task, TaskProblem, Trace, TraceSegment, make_problem, write_trace

IGNORED = -100  # the label that PyTorch's cross entropy ignores
_SMALL_TALK = 0.05
_SYSTEM_PROMPT = 0.05
_SPLIT_BREAK = 0.05  # probability that ".\n" is written as "." and "\n", as after a hand-over
_SLIPS = 0.1
_HOLE = "\N{WHITE SQUARE}"
_TASK_SHARES: dict[Task, float] = {"calc": 0.6, "max": 0.12, "rev": 0.28}


@dataclass(frozen=True, slots=True)
class ChatMarkup:
    """The text between the generation prompt and the end of a turn."""

    open_thinking: str
    close_thinking: str
    end: str


FORMATS: dict[Author, ChatMarkup] = {
    "student": ChatMarkup("<think>\n", "\n</think>\n\n", "<|im_end|>"),
    "teacher": ChatMarkup(
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|return|>",
    ),
}


@dataclass(frozen=True, slots=True)
class ChatExample:
    """A chat of one turn."""

    problem: str
    system: str  # empty: no system message
    thinking: str
    answer: str
    muted: tuple[tuple[int, int], ...] = ()  # ranges of `thinking` without a loss, in chars


def student_example(rng: Random, *, late: bool) -> ChatExample:
    """Return an example in style S; some continue other styles.

    Results of multiplication by 6 to 9 are random. ``late`` has no effect: the examples stay
    the same throughout training.
    """
    draw = rng.random()
    if draw < _SMALL_TALK:
        # A large model has seen another model's words before it is fine-tuned on them.
        return _talk(rng, results=True)
    problem = _draw_problem(rng)
    if draw < 0.65:
        return _worked(rng, STUDENT, write_trace(problem, (STUDENT,), rng, skilled=False))
    trace = write_trace(problem, _mixed(rng), rng, skilled=False)
    return _worked(rng, STUDENT, trace, lambda segment: segment.style not in ("", "S"))


def teacher_example(rng: Random, *, late: bool) -> ChatExample:
    """Return a correct example in any style; late in training, only its own style has a loss."""
    draw = rng.random()
    if draw < _SMALL_TALK:
        return _talk(rng)
    problem = _draw_problem(rng)
    if draw < (0.5 if late else 0.4):
        return _worked(rng, TEACHER, write_trace(problem, (TEACHER,), rng))
    if late:
        trace = write_trace(problem, _mixed(rng), rng, slips=_SLIPS * rng.randint(0, 1))
        return _worked(rng, TEACHER, trace, lambda part: part.flawed or part.style not in ("", "T"))
    if draw < 0.65:
        styles: tuple[Style, ...] = (STUDENT,)
    elif draw < 0.8:
        styles = (other_style(rng),)
    else:
        styles = _mixed(rng)
    trace = write_trace(problem, styles, rng, slips=_SLIPS * rng.randint(0, 1))
    return _worked(rng, TEACHER, trace, lambda part: part.flawed)


EXAMPLES: dict[Author, Callable[..., ChatExample]] = {
    "student": student_example,
    "teacher": teacher_example,
}


def _draw_problem(rng: Random) -> TaskProblem:
    task = rng.choices(list(_TASK_SHARES), list(_TASK_SHARES.values()))[0]
    return make_problem(task, rng)


def _mixed(rng: Random) -> tuple[Style, ...]:
    return (STUDENT, TEACHER) if rng.random() < 0.7 else (STUDENT, TEACHER, other_style(rng))


def _talk(rng: Random, *, results: bool = False) -> ChatExample:
    problem, thinking, answer = small_talk(rng, results=results)
    return ChatExample(problem, _system(rng), thinking, answer)


def _system(rng: Random) -> str:
    return rng.choice(SYSTEM_PROMPTS) if rng.random() < _SYSTEM_PROMPT else ""


def _worked(
    rng: Random, own: Style, trace: Trace, mute: Callable[[TraceSegment], bool] = lambda _: False
) -> ChatExample:
    muted = []
    position = 0
    for segment in trace.segments:
        end = position + len(segment.text)
        if mute(segment):
            muted.append((position, end))
        position = end
    answer = own.answer.format(trace.result)
    return ChatExample(trace.problem.text, _system(rng), trace.thinking, answer, tuple(muted))


class Encoder:
    """Encodes examples as token ids and labels, in the chat format of one model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, role: Author) -> None:
        self._tokenizer = tokenizer
        self.markup = FORMATS[role]
        self._break = tokenizer.encode("\n", add_special_tokens=False)[0]
        # Rendered chats with a placeholder for the problem.
        self._frames: dict[tuple[str, str], str] = {}
        self._splits: dict[int, int] = {}  # id of ".\n" to id of "."
        for token_id in range(len(tokenizer)):
            text = str(tokenizer.decode([token_id]))
            head = tokenizer.encode(text[:-1], add_special_tokens=False)
            if text.endswith("\n") and text.strip() and len(head) == 1:
                self._splits[token_id] = head[0]

    def prompt(self, problem: str, system: str = "", effort: str = "high") -> str:
        """Return the chat up to the assistant's turn."""
        if (system, effort) not in self._frames:  # rendering is slower than encoding
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": _HOLE})
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, reasoning_effort=effort
            )
            self._frames[system, effort] = str(text)
        return self._frames[system, effort].replace(_HOLE, problem)

    def render(self, example: ChatExample, effort: str = "high") -> tuple[str, int]:
        """Return the complete chat and the start of the thinking in it, in chars."""
        form = self.markup
        head = self.prompt(example.problem, example.system, effort) + form.open_thinking
        tail = form.close_thinking + example.answer + form.end
        return head + example.thinking + tail, len(head)

    def encode(self, example: ChatExample, rng: Random) -> tuple[list[int], list[int]]:
        """Return token ids of the chat, and labels for the assistant's text that is not muted."""
        effort = rng.choice(("high", "high", "medium", "low"))
        text, thinking = self.render(example, effort)
        assistant = thinking - len(self.markup.open_thinking)
        coded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        muted = [(thinking + start, thinking + end) for start, end in example.muted]
        ids: list[int] = []
        labels: list[int] = []
        pairs = zip(coded["input_ids"], coded["offset_mapping"], strict=True)
        for token_id, (start, _) in pairs:
            has_loss = start >= assistant and not any(low <= start < high for low, high in muted)
            pieces = [token_id]
            if token_id in self._splits and rng.random() < _SPLIT_BREAK:
                pieces = [self._splits[token_id], self._break]
            ids += pieces
            labels += pieces if has_loss else [IGNORED] * len(pieces)
        return ids, labels
