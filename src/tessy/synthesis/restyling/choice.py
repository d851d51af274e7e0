"""The choice of a candidate by sampling importance resampling (pure).

The candidates are draws from the student's distribution of style, given the text before. Choosing
one with a probability proportional to the likelihood of the capability that follows it gives, for
many candidates, P(style | before) · P(capability that follows | before, style).

Source: D. Rubin, "Using the SIR algorithm to simulate posterior distributions", 1988.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

# A draw fits if what follows is at least a tenth as likely as after the words of the trace.
FIT_NATS = math.log(10)


class Choice(NamedTuple):
    """The number of the chosen candidate, and the effective sample size of the weights."""

    number: int
    effective: float


def fits(logprob: float, reference: float) -> bool:
    """Return whether what follows is likely enough, compared with the trace's own words."""
    return math.isfinite(logprob) and logprob >= reference - FIT_NATS


def choose(logprobs: Sequence[float], seed: int) -> Choice:
    """Choose a candidate, at least one, with probability proportional to ``exp(logprob)``.

    Infinite log-probabilities and those that are not a number have no weight, except if all do.
    """
    most = max(filter(math.isfinite, logprobs), default=0.0)
    weights = [math.exp(at - most) if math.isfinite(at) else 0.0 for at in logprobs]
    if not any(weights):
        weights = [1.0] * len(weights)
    (number,) = Random(seed).choices(range(len(weights)), weights)
    total = math.fsum(weights)
    effective = total * total / math.fsum(weight * weight for weight in weights)
    return Choice(number, effective)
