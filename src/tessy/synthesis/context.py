"""What every sample of a run shares: the models at the table and the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.cut import Cut
from tessy.core.errors import SampleFailed
from tessy.core.records import Author
from tessy.inference.base import Engine, Sampling
from tessy.tokenization.renderers import Renderer

# A stopped sample loses at most one request: under a second where a stream writes more than 64
# tokens a second. One request more per 64 tokens of a long text costs 2 to 4 % of that text's time.
REQUEST_TOKENS = 64
PAPER_DRAFT_TOKENS = 20  # the paper's k
MARKER_TOKENS = 16  # end of the thinking, start of the answer, end of turn
LEAST_TOKENS = 32  # a context with less room than this beside the prompt is of no use


@dataclass(frozen=True, slots=True)
class RoleBackend:
    """A model at the table.

    Attributes:
        renderer: Its chat format and tokenizer.
        engine: Continues token ids.
        sampling: How it draws.
        request_tokens: Most tokens of one request: of a stream, or of a fixed draft.
        context_tokens: Prompt plus output limit in its tokens; None if nobody knows.
        native_ids: The engine returns the ids as sampled, not a text encoded again.
    """

    renderer: Renderer
    engine: Engine
    sampling: Sampling
    request_tokens: int = REQUEST_TOKENS
    context_tokens: int | None = None
    native_ids: bool = True


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What one sample may write, in tokens of the rows' model.

    Attributes:
        thinking: Longest thinking.
        answer: Longest answer.
        available: Longest thinking that each model's context holds, in its own tokens.
        whole: Longest thinking and answer together that the context of who answers holds, in its
            own tokens.
    """

    thinking: int
    answer: int
    available: dict[Author, int]
    whole: int


@dataclass(frozen=True, slots=True)
class SynthesisContext:
    """Everything samples share.

    Attributes:
        seats: The models that take part.
        strategy: Name of how samples are made.
        answering: Who writes the answer.
        home: The rows' model: they are in its format and its tokens, and budgets are.
        renderer: Its format, where it has no seat.
        thinking_tokens: Thinking budget.
        answer_tokens: Answer budget.
        seed: Seed of the run.
        keep_ids: Write the student's ids into the rows.
        predictors: Say where words of one author end, where two write in turns.
        cut: What becomes of a unit with tokens of both classes, where two write in turns.
        candidates: How many are made of one sample, where the best one is kept.
        score_by: What ranks them.
    """

    backends: dict[Author, RoleBackend]
    strategy: str
    answering: Author
    thinking_tokens: int
    answer_tokens: int
    seed: int
    keep_ids: bool = True
    predictors: Mapping[Author, BoundaryPredictor] = field(default_factory=dict)
    cut: Cut = "discard"
    home: Author = "student"
    renderer: Renderer | None = None
    candidates: int = 5
    score_by: Literal["teacher", "answer"] = "teacher"

    @property
    def format(self) -> Renderer:
        """The rows' format."""
        if self.home in self.backends:
            return self.backends[self.home].renderer
        assert self.renderer is not None  # who has no seat has left its format
        return self.renderer

    def limits(self, prompts: Mapping[Author, int], answering: Author | None = None) -> TokenLimits:
        """What a text with prompts of these lengths (own tokens) may grow to.

        A context that cannot hold both budgets is shared out: the answer gets what the thinking
        leaves, a quarter at the least and ``answer_tokens`` at the most, and thinking the rest.

        Args:
            prompts: Length of the prompt, by those who read the text.
            answering: Who of them writes the answer; None: the one who does in this room.

        Raises:
            SampleFailed: ``prompt_too_long``.
        """
        answering = answering or self.answering
        available: dict[Author, int] = {}
        for author in prompts:
            backend = self.backends[author]
            wanted = self.thinking_tokens + self.answer_tokens + MARKER_TOKENS
            if backend.context_tokens is None:
                # Another tokenizer may need more ids for the same text; no limit is known.
                available[author] = 8 * wanted
                continue
            available[author] = backend.context_tokens - prompts[author] - MARKER_TOKENS
            if available[author] < LEAST_TOKENS:
                raise SampleFailed(
                    "prompt_too_long",
                    f"the question takes {prompts[author]} of the {author}'s "
                    f"{backend.context_tokens} tokens of context",
                )
        own = available[answering]
        answer = min(self.answer_tokens, max(own - self.thinking_tokens, own // 4))
        available[answering] = own - answer
        thinking = self.thinking_tokens
        if self.home in available:
            thinking = available[self.home] = min(thinking, available[self.home])
        return TokenLimits(thinking, answer, available, own)
