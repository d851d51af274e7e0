"""Names, models and methods of runs, in words for people.

Source: the comparisons of arXiv 2604.14164, with our own strategies' names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tessy.core.records import AUTHORS, Author
from tessy.synthesis.strategies.registry import all_strategies


class Method(NamedTuple):
    """How samples are made.

    Attributes:
        strategy: Its name.
        thinking_by: Who writes the thinking.
        answer_by: Who writes the answer.
        how: A sentence or two.
    """

    strategy: str
    thinking_by: str
    answer_by: str
    how: str


def _method(name: str) -> Method | None:
    strategy = all_strategies().get(name)
    if strategy is None:
        return None
    answer_by = strategy.answer_by or "same model"
    return Method(name, strategy.thinking_by, answer_by, strategy.how)


def describe(
    document: Mapping[str, Any], strategies: Counter[str], answer_by: Collection[Author] = ()
) -> Method:
    """Return how a run was made.

    Args:
        document: The content of its config.json.
        strategies: Its finished samples by strategy; they win over what the document says.
        answer_by: Who wrote their answers; for a run made out of others.
    """
    data = document.get("data_config", {})
    if derived := data.get("derived"):
        method = _derived(derived, document.get("config", {}), strategies)
        if prompt := data.get("system_prompt"):
            method = method._replace(how=f"{method.how} With a system message: “{prompt}”")
        return method._replace(answer_by=_either(set(answer_by)) if answer_by else method.answer_by)
    configured = "sample" if data.get("command") == "sample" else data.get("strategy", "tessy")
    name = strategies.most_common(1)[0][0] if strategies else str(configured)
    method = _method(name) or Method(name, "–", "–", "A strategy this version does not know.")
    how = [method.how]
    if name == "sample" and data.get("author") in AUTHORS:
        method = method._replace(thinking_by=data["author"], answer_by=data["author"])
    if name == "tessy" and data.get("answer_by") == "teacher":
        method = method._replace(answer_by="teacher")
        how = [how[0].replace("The student writes the answer", "The teacher writes the answer")]
    if name == "teacher-score":
        judged = "one with the right answer is best"
        if data.get("score_by") != "answer":
            judged = "the teacher scores each"
        how.append(f"Here {data.get('candidates', 'several')}: {judged}.")
    if prompt := data.get("system_prompt"):
        how.append(f"With a system message: “{prompt}”")
    return method._replace(how=" ".join(how))


def _derived(
    derived: Mapping[str, Any], options: Mapping[str, Any], strategies: Counter[str]
) -> Method:
    """Return a run made out of others."""
    names = [Path(str(source.get("path"))).name for source in derived.get("sources", ())]
    by = derived.get("by")
    if by == "mix":
        ratio = options.get("ratio")
        how = f"Samples of {' and '.join(names)}, {ratio}, each problem's from one of the two."
    elif by == "filter":
        how = f"The samples of {' and '.join(names)} that passed the filters."
    else:
        how = f"Made by {by} out of {' and '.join(names)}."
    known = [method for name in strategies if (method := _method(name)) is not None]
    thinking, answer = ({getattr(m, part) for m in known} for part in ("thinking_by", "answer_by"))
    return Method(" + ".join(strategies) or str(by), _either(thinking), _either(answer), how)


def _either(names: set[str]) -> str:
    return " or ".join(sorted(names)) or "–"


def models(document: Mapping[str, Any]) -> dict[Author, str]:
    """Return the models of a run by role, as far as its config.json names them."""
    data = document.get("data_config", {})
    if data.get("author") in AUTHORS and data.get("model"):  # a run of `tessy sample`
        return {data["author"]: str(data["model"])}
    return {a: str(data[f"{a}.model"]) for a in AUTHORS if data.get(f"{a}.model")}


def names(directories: Sequence[Path]) -> list[str]:
    """A name for each of different directories: its last part, and as many as tell it apart."""
    parts = [path.resolve().parts for path in directories]
    found = []
    for own in parts:
        length = 1
        while sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        found.append("/".join(own[-length:]))
    return found
