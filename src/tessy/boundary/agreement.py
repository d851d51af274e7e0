"""How often the two kinds of windows give a token the same class (pure but for the classifier)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tessy.boundary.labels import class_of
from tessy.boundary.scoring import Scores
from tessy.boundary.window import Reading, Window, WindowRule
from tessy.tokens import Codec

_AT_ONCE = 32  # windows scored in one pass


class Scorer(Protocol):
    """Reads whole windows; :class:`tessy.boundary.classifier.PlainScorer` is one."""

    def score(self, windows: Sequence[Sequence[int]]) -> list[Scores]:
        """P(style) of what follows each token of each window."""
        ...


@dataclass(frozen=True, slots=True)
class WindowAgreement:
    """Anchored windows against the last 200 tokens, on the same texts.

    Attributes:
        tokens: Tokens of all texts that something precedes.
        compared: Those that the two judge from different beginnings; before the window first
            slides both read the same. The other figures are of these alone.
        same_class: Share of them (0 to 1) that get the same class; 1 if there are none.
        mean_change: Mean |change of P(style)|.
        max_change: Largest |change of P(style)|.
    """

    tokens: int
    compared: int
    same_class: float
    mean_change: float
    max_change: float


def window_agreement(
    scorer: Scorer,
    codec: Codec,
    rule: WindowRule,
    texts: Iterable[str],
    *,
    step_tokens: int = 10,
) -> WindowAgreement:
    """Judge each token of ``texts`` both ways.

    Args:
        scorer: The classifier.
        codec: Of its tokenizer.
        rule: Its anchored windows.
        texts: Thinking texts; they should be longer than 200 tokens to say anything.
        step_tokens: New tokens a judgement by the last 200 is asked for (METHOD: 5 and 10).
    """
    tokens = same = 0
    changes: list[float] = []
    for text in texts:
        reading = Reading(codec, rule)
        reading.read(text)
        tokens += max(0, len(reading.ids) - 1)
        anchored = dict(_judged(scorer, reading.ids, reading.windows(0), len(reading.ids)))
        sliding = _sliding(len(reading.ids), rule.slide().keep, step_tokens)
        for token, (start, p) in _judged(scorer, reading.ids, sliding, step_tokens):
            other_start, other_p = anchored[token]
            if start != other_start:
                same += class_of(p) == class_of(other_p)
                changes.append(abs(p - other_p))
    if not changes:
        return WindowAgreement(tokens, 0, 1.0, 0.0, 0.0)
    count = len(changes)
    return WindowAgreement(tokens, count, same / count, sum(changes) / count, max(changes))


def _sliding(tokens: int, keep: int, step: int) -> list[Window]:
    """The inputs of one judgement after the other as a text grows by ``step`` tokens."""
    ends = [*range(step, tokens, step), tokens] if tokens else []
    return [Window(max(0, end - keep), end) for end in ends]


def _judged(
    scorer: Scorer, ids: Sequence[int], windows: Sequence[Window], at_most: int
) -> Iterator[tuple[int, tuple[int, float]]]:
    """Tokens judged, each by the first window that says its class: start of that, P(style).

    A window says nothing about tokens other than its last ``at_most``.
    """
    judged = 1  # nothing comes before the first token
    for first in range(0, len(windows), _AT_ONCE):
        group = windows[first : first + _AT_ONCE]
        found = scorer.score([ids[start:end] for start, end in group])
        for (start, end), scores in zip(group, found, strict=True):
            for token in range(max(judged, end - at_most, start + 1), end):
                yield token, (start, scores[token - 1 - start])
            judged = max(judged, end)
