"""Styles: the phrases between the steps of a trace.

S is the student's style, T the teacher's. With the others, the teacher learns to continue any text.
No phrase shows how far the thinking is, so what comes next depends on the steps and the problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

Place = Literal["openers", "leads", "asides"]
PLACES: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True, slots=True)
class Style:
    """Phrases by their place in a trace."""

    name: str  # `S`, `T` or `other`
    openers: tuple[str, ...]  # start the thinking
    leads: tuple[str, ...]  # introduce a step or the result
    asides: tuple[str, ...]  # comment on a step or the result
    answer: str  # with `{}` for the result

    @property
    def phrases(self) -> tuple[str, ...]:
        """Every phrase of the thinking."""
        return tuple(phrase for place in PLACES for phrase in getattr(self, place))


STUDENT = Style(
    name="S",
    openers=(
        "Okay, let's see.",
        "Okay, so let me think.",
        "Hmm, let me think about this.",
        "Alright, let's see.",
    ),
    leads=(
        "Then",
        "So",
        "Okay, so",
        "Now",
        "Hmm,",
        "And then",
        "Okay, then",
        "So I get",
        "Okay, so that gives",
        "But wait, let me check.",
        "Wait, let me double-check.",
    ),
    asides=(
        "Hmm, okay.",
        "Okay, good.",
        "That seems right.",
        "Okay, that's it.",
        "Okay, I think that's right.",
    ),
    answer="So the answer is {}.",
)

TEACHER = Style(
    name="T",
    openers=("We need to compute this:", "Task analysis:", "We are given the following:"),
    leads=(
        "Hence",
        "Observation:",
        "Thus",
        "Therefore",
        "It follows that",
        "Proceeding,",
        "We conclude with",
        "For verification:",
    ),
    asides=("Verified.", "This is consistent.", "As required.", "This completes the derivation."),
    answer="Result: {}.",
)

OTHERS = Style(
    name="other",
    openers=(
        "Alright, here we go.",
        "Let me work through this step by step.",
        "The user wants a number.",
        "First, I should read the question carefully.",
        "Good question.",
        "Right, time to start.",
        "Let's break it down.",
    ),
    leads=(
        "First,",
        "Next,",
        "After that,",
        "From here,",
        "Well,",
        "This means",
        "Moving on,",
        "Let's do",
        "I know that",
        "Step:",
        "Here",
        "Note that",
        "In summary:",
        "Just to be sure:",
        "Going over it again,",
    ),
    asides=(
        "Simple enough.",
        "Great.",
        "I am fairly sure.",
        "No problem here.",
        "That works.",
        "Noted.",
        "That should do it.",
    ),
    answer="The answer is {}.",
)


STYLES = (STUDENT, TEACHER, OTHERS)


def other_style(rng: Random) -> Style:
    """Return a random style: two phrases at each place, drawn from :data:`OTHERS`."""
    drawn = {place: tuple(rng.sample(getattr(OTHERS, place), 2)) for place in PLACES}
    return Style(name="other", answer=OTHERS.answer, **drawn)
