"""Names, models and descriptions of runs.

Source: the comparisons of arXiv 2604.14164, with the names of our strategies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tessy.core.records import AUTHORS, Author
from tessy.synthesis.strategies.registry import all_strategies


class Method(NamedTuple):
    """Method of a run."""

    strategy: str
    thinking_by: str
    answer_by: str
    how: str  # description in one or two sentences


def _method(name: str) -> Method | None:
    strategy = all_strategies().get(name)
    if strategy is None:
        return None
    answer_by = strategy.answer_by or "same model"
    return Method(name, strategy.thinking_by, answer_by, strategy.how)


def describe(
    document: Mapping[str, Any], strategies: Counter[str], answer_by: Collection[Author] = ()
) -> Method:
    """Return the method of the run with the config.json ``document``.

    ``strategies`` counts finished samples and has precedence over ``document``. ``answer_by`` lists
    the authors of the answers, for a derived run.
    """
    data = document.get("data_config", {})
    if derived := data.get("derived"):
        method = _derived(derived, document.get("config", {}), strategies)
        if answer_by:
            method = method._replace(answer_by=_either(set(answer_by)))
    else:
        method = _own(data, strategies)
    if prompt := data.get("system_prompt"):
        method = method._replace(how=f"{method.how} System prompt: “{prompt}”")
    return method


def _own(data: Mapping[str, Any], strategies: Counter[str]) -> Method:
    """Return the method of a run that is not derived from others."""
    configured = "sample" if data.get("command") == "sample" else data.get("strategy", "tessy")
    name = strategies.most_common(1)[0][0] if strategies else str(configured)
    method = _method(name) or Method(name, "–", "–", "Unknown strategy.")
    how = method.how
    if name == "sample" and data.get("author") in AUTHORS:
        method = method._replace(thinking_by=data["author"], answer_by=data["author"])
    if name == "tessy" and data.get("answer_by") == "teacher":
        method = method._replace(answer_by="teacher")
        how = how.replace("The student writes the answer", "The teacher writes the answer")
    if name == "tessy" and data.get("student.predictor"):
        names = [Path(str(data.get(f"{author}.predictor"))).name for author in AUTHORS]
        how += f" Predictors: {' and '.join(dict.fromkeys(names))}."
    if name == "teacher-score":
        by = "correctness of the answer" if data.get("score_by") == "answer" else "the teacher"
        how += f" Candidates: {data.get('candidates', 'several')}, scored by {by}."
    return method._replace(how=how)


def _derived(
    derived: Mapping[str, Any], options: Mapping[str, Any], strategies: Counter[str]
) -> Method:
    names = [Path(str(source.get("path"))).name for source in derived.get("sources", ())]
    by = derived.get("by")
    if by == "mix":
        how = f"Samples of {' and '.join(names)} in the ratio {options.get('ratio')}."
    elif by == "filter":
        how = f"Samples of {' and '.join(names)} that passed all filter rules."
    else:
        how = f"Created by `tessy {by}` from {' and '.join(names)}."
    methods = [method for name in strategies if (method := _method(name)) is not None]
    thinking, answer = (
        {getattr(m, part) for m in methods} for part in ("thinking_by", "answer_by")
    )
    return Method(" + ".join(strategies) or str(by), _either(thinking), _either(answer), how)


def _either(names: set[str]) -> str:
    return " or ".join(sorted(names)) or "–"


def models(document: Mapping[str, Any]) -> dict[Author, str]:
    """Return the models in the config.json of a run, by role."""
    data = document.get("data_config", {})
    if data.get("author") in AUTHORS and data.get("model"):  # a run of `tessy sample`
        return {data["author"]: str(data["model"])}
    return {a: str(data[f"{a}.model"]) for a in AUTHORS if data.get(f"{a}.model")}


def short_names(paths: Sequence[PurePath]) -> list[str]:
    """Return the shortest suffix of each path that is unique; equal paths have the same one."""
    parts = [path.parts for path in paths]
    names = []
    for own in parts:
        others, length = [other for other in parts if other != own], 1
        while any(other[-length:] == own[-length:] for other in others):
            length += 1
        names.append("/".join(own[-length:]))
    return names
