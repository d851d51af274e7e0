"""The rules of ``tessy filter``, by name: a row in, the reason to set it aside out, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tessy.answers.references import is_right, short_reference
from tessy.core.errors import ConfigError
from tessy.core.records import Trajectory
from tessy.core.repetition import find_any_loop
from tessy.data.filter import texts
from tessy.data.filter.evaluation_sets import EvaluationQuestions, question_text
from tessy.data.filter.language import language_switch

Check = Callable[[Trajectory], str | None]

# In the order of the table; what each one finds is told by the function of its name.
RULES: Mapping[str, str] = {
    "truncated": "the answer ends in mid-way",
    "looping": "thinking or answer say something over and over",
    "empty_answer": "the answer says nothing",
    "no_code": "the question asks for a program (or --require-code), the answer has no code block",
    "chat_markers": "markup of a chat format in thinking or answer",
    "language": "thinking or answer switch to another script than the question's",
    "near_duplicate": "nearly the text of an earlier row that was kept",
    "in_evaluation": "the question resembles one of the files given with --against",
    "wrong_answer": "the answer is not the row's reference",
}


def chosen(skip: tuple[str, ...], *, against: bool) -> tuple[str, ...]:
    """The names of the rules to apply.

    Raises:
        ConfigError: ``skip`` names a rule that there is not, or leaves none.
    """
    unknown = [name for name in skip if name not in RULES]
    if unknown:
        raise ConfigError(f"--skip: there is no rule {unknown[0]!r}; the rules: {', '.join(RULES)}")
    names = tuple(
        name for name in RULES if name not in skip and (against or name != "in_evaluation")
    )
    if not names:
        raise ConfigError("--skip: no rule is left to apply; skip fewer")
    return names


def truncated(row: Trajectory) -> str | None:
    """See :func:`tessy.data.filter.texts.truncated`; a thinking that ended has its end marker."""
    return texts.truncated(row.answer)


def looping(row: Trajectory) -> str | None:
    """See :func:`tessy.core.repetition.find_any_loop`."""
    for part, text in _parts(row):
        loop = find_any_loop(text)
        if loop is not None:
            return f"the {part} repeats {loop[:100]!r}"
    return None


def empty_answer(row: Trajectory) -> str | None:
    """See :func:`tessy.data.filter.texts.empty`."""
    return texts.empty(row.answer)


def no_code(*, required: bool) -> Check:
    """See :func:`tessy.data.filter.texts.without_code`."""
    return lambda row: texts.without_code(
        question_text(row.messages), row.answer, required=required
    )


def chat_markers(row: Trajectory) -> str | None:
    """See :func:`tessy.data.filter.texts.chat_markers`."""
    question = question_text(row.messages)
    found = ((part, texts.chat_markers(question, text)) for part, text in _parts(row))
    return next((f"in the {part}: {marker}" for part, marker in found if marker), None)


def language(row: Trajectory) -> str | None:
    """See :func:`tessy.data.filter.language.language_switch`."""
    question = question_text(row.messages)
    found = ((part, language_switch(question, text)) for part, text in _parts(row))
    return next((f"in the {part}: {switch}" for part, switch in found if switch), None)


def in_evaluation(known: EvaluationQuestions) -> Check:
    """See :meth:`tessy.data.filter.evaluation_sets.EvaluationQuestions.find`."""
    return lambda row: known.find(question_text(row.messages))


def wrong_answer(field: str) -> Check:
    """See :func:`tessy.answers.references.is_right`; rows without a reference in ``field`` pass."""

    def check(row: Trajectory) -> str | None:
        reference = short_reference(row.problem.get(field))
        if reference is None or is_right(row.answer, reference):
            return None
        wanted, said = (text.strip()[-80:] for text in (reference, row.answer))
        return f"the reference is {wanted!r}, the answer ends {said!r}"

    return check


def _parts(row: Trajectory) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("thinking", row.thinking), ("answer", row.answer)


TEXT_CHECKS: Mapping[str, Check] = {
    check.__name__: check for check in (truncated, looping, empty_answer, chat_markers, language)
}
