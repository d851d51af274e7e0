"""Data card of an exported folder, from config.json, rows and summary of its run (pure)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from tessy.core.errors import reason_labels
from tessy.core.formatting import counted, markdown_table, percent
from tessy.core.records import AUTHORS
from tessy.data.export.provenance import (
    command_line,
    notes,
    public,
    role_of,
    sources,
    trace_sources,
)
from tessy.storage.cards import fenced, front_matter, listed, short_digest
from tessy.synthesis.strategies.registry import all_strategies

_SIZES = {
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
}
_SAMPLING = ("temperature", "top_p", "top_k", "min_p")
_MEASURES = {"mean": "mean", "median": "median", "p80": "80th percentile", "max": "longest"}
_COLUMNS = (
    "## Columns\n\n"
    "- `id`, `sample`: id of the problem and index of the sample; `problem`: other fields of "
    "the input row, as JSON text\n"
    "- `messages`: problem and response, as input of a chat template\n"
    "- `thinking`, `answer`: the two parts of the response\n"
    "- `spans`: authors of `thinking[start:end]` (half-open, in Unicode code points); "
    "`answer_by`: author of the answer; `ended_by`: author that ended the thinking\n"
    "- `student_ids`: the student's token ids of thinking and answer, as sampled where the "
    "student is the author; null if the server returned none\n"
    "- `scores`, `unscored` (`teacher-score`): the candidates' scores, or the reasons for "
    "missing ones; `reference_answer` (`teacher-reference`): the answer shown to the student\n"
    "- `restyle` (`restyle`): the rule that split the trace, and of each replaced place the number "
    "of candidates and the effective sample size of their weights, as JSON text\n"
    "- `tokens`: token counts, in the student's tokens; `tokens.drafted`: tokens generated, in "
    "each model's own tokens\n"
    "- `forced`: words kept although the predictor assigned them to the other author; `glued`: "
    "hand-overs inside a word\n"
    "- `strategy`, `attempts`, `seconds`, `cost`: the method and its cost\n"
)


def data_card(
    name: str,
    document: Mapping[str, Any],
    counts: Mapping[str, Any],
    methods: Mapping[tuple[str, str], int],
    summary: Mapping[str, Any],
    *,
    traces: Collection[str],
    licence: str | None,
) -> str:
    """Return the content of README.md for the run ``name`` with the config.json ``document``.

    ``counts`` are those of the exported rows and the failures, ``methods`` the number of samples by
    strategy and author of the answer, ``summary`` the content of the run's summary.json, ``traces``
    the digests of the rows' traces.
    """
    data = document["data_config"]
    finished = counts["samples"]["finished"]
    parts = [
        front_matter(_fields(name, finished, licence)),
        f"# {name}\n\n{counted(finished, 'reasoning sample')} for fine-tuning "
        f"{_student(data)}, generated with `tessy` {document.get('tessy')} "
        "(TESSY, [arXiv 2604.14164](https://arxiv.org/abs/2604.14164)).\n",
        _method(data, methods),
        _traces(document, traces),
        _models(data),
        _counts(counts),
        "" if "derived" in data else _failures(counts),
        _origin(name, document, summary),
        _COLUMNS,
        f"## Licence\n\n{licence or 'No licence was given: choose one before publishing'}. "
        "The terms of the problems and models may also apply to this data.\n",
    ]
    return "\n".join(part for part in parts if part)


def size_category(rows: int) -> str:
    """Return the Hugging Face size category of a number of rows."""
    return next((name for limit, name in _SIZES.items() if rows < limit), "n>10M")


def _fields(name: str, rows: int, licence: str | None) -> dict[str, str | list[str]]:
    return {
        "license": (licence or "unknown").lower(),
        "pretty_name": json.dumps(name),
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows)],
        "tags": ["tessy", "reasoning", "synthetic"],
        "configs": [
            "config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet"
        ],
    }


def _student(data: Mapping[str, Any]) -> str:
    role = role_of(data)
    model = data.get(f"{role.prefix}model")
    return f"`{public(model)}`" if isinstance(model, str) else "a student"


def _method(data: Mapping[str, Any], methods: Mapping[tuple[str, str], int]) -> str:
    known = all_strategies()
    rows = [
        (
            f"`{strategy}`",
            f"{count:,}",
            known[strategy].how if strategy in known else "",
            str(data.get("author", by) if strategy == "sample" else by),
        )
        for (strategy, by), count in sorted(methods.items())
    ]
    columns = ("strategy", "samples", "method", "answer by")
    system = data.get("system_prompt")
    prompt = f"\nEach problem has this system prompt:\n\n{fenced(str(system))}"
    return (
        "## Method\n\n"
        "The thinking has the student's chat format. `spans` lists the author of each range of "
        "characters, `answer_by` the author of the answer.\n\n"
        f"{markdown_table(columns, rows)}{prompt if system else ''}"
    )


def _traces(document: Mapping[str, Any], digests: Collection[str]) -> str:
    """Return a sentence with the sources of traces and the digest of their distinct digests."""
    if not digests:
        return ""
    names = ", ".join(f"`{name}`" for name in trace_sources(document)) or "an unknown source"
    digest = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
    return (
        f"The samples of `restyle` rewrite {counted(len(digests), 'trace')} from {names} "
        f"(digest of these traces: {short_digest(digest)}).\n"
    )


def _models(data: Mapping[str, Any]) -> str:
    prefixes = {author: f"{author}." for author in AUTHORS}
    if data.get("command") == "sample":
        role = role_of(data)
        prefixes = {role.author: role.prefix}
    rows = []
    for author, prefix in prefixes.items():
        model = data.get(f"{prefix}model")
        if not isinstance(model, str):
            continue
        sampling = (str(data.get(f"{prefix}sampling.{key}", "")) for key in _SAMPLING)
        predictor = data.get(f"{prefix}predictor")
        shown = f"`{public(predictor)}`" if isinstance(predictor, str) else ""
        rows.append((author, f"`{public(model)}`", *sampling, shown))
    if not rows:
        return ""
    columns = ("role", "model", *_SAMPLING, "boundary predictor")
    return f"## Models\n\n{markdown_table(columns, rows)}"


def _counts(counts: Mapping[str, Any]) -> str:
    tokens, lengths = counts["tokens"], counts["lengths"]
    rows = [
        (f"thinking by the {author}", f"{tokens[author]:,}", percent(tokens["share"][author]))
        for author in AUTHORS
    ]
    rows.append(("answers", f"{tokens['answer']:,}", ""))
    spread = [
        (part, *(f"{lengths[part][measure]:,}" for measure in _MEASURES))
        for part in ("thinking", "answer")
    ]
    shares = markdown_table(("part", "tokens", "share of the thinking"), rows)
    lengths_table = markdown_table(("length in tokens", *_MEASURES.values()), spread)
    return f"## Tokens\n\n{shares}\n{lengths_table}"


def _failures(counts: Mapping[str, Any]) -> str:
    rows = [(name, f"{count:,}") for name, count in reason_labels(counts["failures"]).items()]
    table = f"\n{markdown_table(('reason', 'samples'), rows)}" if rows else ""
    failed = counted(counts["samples"]["failed"], "failed sample")
    return f"## Failures\n\nNot included: {failed}.\n{table}"


def _origin(name: str, document: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    data = document["data_config"]
    derived = data.get("derived")
    origin = ""
    if derived:
        origin = f"`tessy {derived['by']}` created this run from:\n\n{sources(data)}\n"
        if derived["by"] in summary:
            origin += f"Its summary: {notes(summary[derived['by']])}.\n\n"
        origin += "Options that all sources share:\n\n"
    versions = listed(document.get("software", {}))
    remark = (
        "Options not shown differ between the sources or have their defaults."
        if derived
        else "Options not shown have their defaults."
    )
    digest = short_digest(document.get("data_digest"))
    return (
        f"## Reproduction\n\n{origin}{fenced(command_line(document))}\n"
        f"{remark} Digest of the options: {digest}; started "
        f"{document.get('created')}; {versions}. This folder: `tessy export {name} --to hf`.\n"
    )
