"""Samples as token ids of the student, each with its author, and their loss weights.

    prompt | opening marker | thinking | closing marker | answer | end of turn

The sequence equals that of the synthesis: the last unit of the thinking is encoded together with
the closing marker, as in the prompt of the answer. Prompt tokens never have labels. Markup that the
model must generate is the student's. A token that spans two authors belongs to the author of its
first character, who chose the token.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from tessy.core.edges import last_unit
from tessy.core.errors import ConfigError, InputError, ModelError, RunError
from tessy.core.records import AUTHORS, Author, Trajectory, unpack_ids
from tessy.data.export.provenance import RoleProvenance, role_of
from tessy.storage.run_config import prompt_date
from tessy.synthesis.setup import formats
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.families import can_find_tokenizer, is_path, load_renderer, why_not_found
from tessy.tokenization.renderer import Renderer
from tessy.tokenization.token_ids import split_tail

Weights = Mapping[Author, float]
_NAMED: Mapping[str, Weights] = {
    "all": {"student": 1.0, "teacher": 1.0},
    "student": {"student": 1.0, "teacher": 0.0},
    "teacher": {"student": 0.0, "teacher": 1.0},
}
IGNORED = -100  # label of tokens without loss
_PROBLEM, _ANSWER = "tessyproblem", "tessyanswer"


class StudentFormat:
    """Conversation format of the model to train; ModelError if the template does not end turns.

    ``owner`` is the author of the markup: the student, or the teacher in a run of its own
    responses. ``alone``: it wrote everything (a run of ``tessy sample``).
    """

    def __init__(
        self, renderer: Renderer, owner: Author = "student", *, alone: bool = False
    ) -> None:
        self.renderer = renderer
        self.owner = owner
        self.alone = alone
        self.end_id = _end_of_turn(renderer)


@dataclass(frozen=True, slots=True)
class TokenizedSample:
    """A tokenized sample."""

    ids: list[int]
    authors: list[Author | None]  # of each token; None in the prompt
    encoded: bool  # tokenized again, because the row has no matching ids

    def weights(self, weights: Weights) -> list[float]:
        """Return the loss weight of each token; 0 for tokens without loss."""
        return [0.0 if author is None else weights[author] for author in self.authors]


def labels(ids: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return the ids of tokens with a positive weight, and :data:`IGNORED` elsewhere."""
    return [i if weight else IGNORED for i, weight in zip(ids, weights, strict=True)]


def tokenize(row: Trajectory, form: StudentFormat) -> TokenizedSample:
    """Tokenize a sample; raises InputError if the chat template rejects the text."""
    renderer, owner = form.renderer, form.owner
    prompt = renderer.prompt_ids(row.messages[:-1])
    opening = _opening_tokens(renderer, prompt)
    authors: list[Author | None] = [None] * (len(prompt) - opening) + [owner] * opening
    sampled = _as_sampled(row, renderer)
    thinking, answer = sampled or _encoded(row, renderer)
    authors += _thinking_authors(row, renderer.codec, thinking, owner)
    authors += [owner if form.alone else row.answer_by] * len(answer)
    ids = [*prompt, *thinking, *answer, form.end_id]
    return TokenizedSample(ids, [*authors, owner], encoded=sampled is None)


def writers(row: Trajectory, form: StudentFormat) -> set[Author]:
    """Return the authors of thinking and answer, without markup."""
    return {span.author for span in row.spans} | {form.owner if form.alone else row.answer_by}


def _as_sampled(row: Trajectory, renderer: Renderer) -> tuple[list[int], list[int]] | None:
    """Return the ids of thinking with marker, and of the answer; None if the text differs."""
    if row.student_ids is None:
        return None
    codec, thinking = renderer.codec, row.thinking
    ids = unpack_ids(row.student_ids.thinking)
    answer = unpack_ids(row.student_ids.answer)
    if not (_matches(codec, ids, thinking) and _matches(codec, answer, row.answer)):
        return None
    kept, tail = split_tail(codec, ids, thinking, len(thinking) - last_unit(thinking))
    return kept + renderer.close_ids(tail), answer


def _encoded(row: Trajectory, renderer: Renderer) -> tuple[list[int], list[int]]:
    """Return the same ids by encoding the text span by span, as the synthesis does."""
    last = last_unit(row.thinking)
    ids: list[int] = []
    for span in row.spans:
        if span.start < last:
            ids += renderer.codec.encode(row.thinking[span.start : min(span.end, last)])
    return ids + renderer.close_ids(row.thinking[last:]), renderer.codec.encode(row.answer)


def _matches(codec: HfCodec, ids: Iterable[int], text: str) -> bool:
    return b"".join(codec.pieces(ids)) == text.encode("utf-8", "surrogatepass")


def _thinking_authors(
    row: Trajectory, codec: HfCodec, ids: Sequence[int], owner: Author
) -> list[Author]:
    """Return the author of the character where each token starts; ``owner`` after the thinking.

    Positions are in bytes, because a token may start inside a character.
    """
    starts = list(accumulate(map(len, codec.pieces(ids)), initial=0))[:-1]
    authors: list[Author] = []
    position = 0
    for span in row.spans:
        position += len(row.thinking[span.start : span.end].encode())
        authors += [span.author] * (bisect_left(starts, position) - len(authors))
    return authors + [owner] * (len(ids) - len(authors))


def _opening_tokens(renderer: Renderer, prompt: Sequence[int]) -> int:
    """Return the number of tokens at the end of the prompt that the model has to generate."""
    remaining = renderer.shape.suffix.encode()
    count = 0
    while remaining:
        piece = renderer.codec.token_bytes(prompt[-1 - count])
        if not piece or not remaining.endswith(piece):
            break  # the token starts in text of the template
        remaining = remaining[: len(remaining) - len(piece)]
        count += 1
    return count


def _end_of_turn(renderer: Renderer) -> int:
    turns = [{"role": "user", "content": _PROBLEM}, {"role": "assistant", "content": _ANSWER}]
    try:
        rest = renderer.template.render(turns, prompt=False).rpartition(_ANSWER)[2]
    except InputError as error:
        raise ModelError(f"the chat template cannot be used: {error}") from error
    mark = renderer.template.markup.match(rest.lstrip())
    if mark is not None:
        return renderer.codec.control[mark[0]]
    if len(renderer.answer_stop_ids) == 1:
        return next(iter(renderer.answer_stop_ids))
    raise ModelError(
        f"the chat template of {renderer.codec.name!r} does not end turns, so a trained model "
        "would not learn to stop; add an end of turn to the template"
    )


def load_format(document: Mapping[str, Any], tokenizer: str | None) -> tuple[StudentFormat, str]:
    """Return the format of the rows of the run with the config.json ``document``.

    ``tokenizer`` replaces the folder or id in config.json. The second value is the digest of
    tokenizer and chat template in config.json, which the result is checked against.

    Raises:
        RunError: config.json does not name the tokenizer.
        ModelError: The tokenizer is unavailable, does not match the run, or requires remote code.
    """
    data = document["data_config"]
    role = role_of(data)
    recorded = data.get(f"{role.author}.format")
    name = tokenizer or data.get(f"{role.prefix}tokenizer") or data.get(f"{role.prefix}model")
    if isinstance(recorded, str) and not isinstance(name, str):
        raise RunError(
            f"the run's config.json does not name the tokenizer of the {role.author}, because the "
            "names differ between its source runs; pass it with --tokenizer"
        )
    if not isinstance(recorded, str) or not isinstance(name, str):
        raise RunError(
            f"the run's config.json has no digest of the tokenizer of the {role.author}: the "
            "tokenizers of its source runs differ, or another version created it; export with "
            "--to messages instead"
        )
    if data.get(f"{role.prefix}trust_remote_code"):
        raise ModelError(
            f"the tokenizer {name!r} requires trust_remote_code, which export does not support; "
            "export with --to messages instead"
        )
    if not is_path(name) and not (found := can_find_tokenizer(name)):
        raise ModelError(
            f"the tokenizer {name!r} of the run was not found: there is no such folder, and "
            f"{why_not_found(found)}; if that is a server's own name for its model, pass the "
            "tokenizer with --tokenizer"
        )
    # The run accepted the template, whatever it mentions.
    effort = _effort(document, role)
    date = prompt_date(document)
    renderer = load_renderer(name, reasoning_effort=effort, force_thinking=True, date=date)
    if date is None and renderer.template.prints_date:
        raise RunError(
            "the chat template prints the date, and the run's config.json has none, because its "
            "source runs have different ones; export with --to messages instead"
        )
    if formats({role.author: renderer})[f"{role.author}.format"] != recorded:
        raise ModelError(
            f"the tokenizer {name!r} differs from the run's in its vocabulary or chat template, so "
            "token ids would not match; pass the right one with --tokenizer"
        )
    return StudentFormat(renderer, role.author, alone=role.alone), recorded


def _effort(document: Mapping[str, Any], role: RoleProvenance) -> str:
    """Return the reasoning effort of the role, which data_config omits if it wrote nothing."""
    options = document.get("config", {})
    options = options if role.alone else options.get(role.author, {})
    own = options.get("reasoning_effort", "high") if isinstance(options, Mapping) else "high"
    return str(document["data_config"].get(f"{role.prefix}reasoning_effort", own))


def parse_loss(text: str) -> Weights:
    """Return the loss weight of each author's tokens; 0 excludes them.

    ``text`` is ``all``, ``student``, ``teacher``, or ``student=1,teacher=0.5``; ConfigError if it
    is invalid or all weights are 0.
    """
    weights = _NAMED.get(text.strip()) or _weights(text)
    if not any(weights.values()):
        raise ConfigError(f"--loss {text}: all weights are 0; at least one must be positive")
    return weights


def _weights(text: str) -> Weights:
    pairs = [part.split("=") for part in text.split(",")]
    with suppress(ValueError):
        numbers = {name.strip(): float(number) for name, number in pairs}
        valid = all(math.isfinite(number) and number >= 0 for number in numbers.values())
        if valid and sorted(name.strip() for name, _ in pairs) == sorted(AUTHORS):
            return {author: numbers[author] for author in AUTHORS}
    raise ConfigError(
        f"--loss: expected all, student, teacher, or non-negative weights such as "
        f"student=1,teacher=0.5; got {text!r}"
    )
