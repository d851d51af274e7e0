"""Models and limits that all samples of a run share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.cut import Cut
from tessy.core.errors import SampleFailed
from tessy.core.records import Author
from tessy.inference.base import Engine, Sampling
from tessy.tokenization.renderer import Renderer

# A stopped sample loses at most one request: under a second where a stream writes more than 64
# tokens a second. One request more per 64 tokens of a long text costs 2 to 4 % of that text's time.
REQUEST_TOKENS = 64
PAPER_DRAFT_TOKENS = 20  # the paper's k
MARKER_TOKENS = 16  # end of the thinking, start of the answer, end of turn
LEAST_TOKENS = 32  # minimum room in a context beside the prompt


@dataclass(frozen=True, slots=True)
class RoleBackend:
    """A model that generates, with its tokenizer and limits.

    Attributes:
        request_tokens: Maximum tokens of one request: of a stream, or of a fixed draft.
        context_tokens: Maximum prompt plus output, in its tokens; None if unknown.
        native_ids: The engine returns ids as sampled, not text encoded again.
        score_tokens: Tokens that the server generates for a request of scores.
    """

    renderer: Renderer
    engine: Engine
    sampling: Sampling
    request_tokens: int = REQUEST_TOKENS
    context_tokens: int | None = None
    native_ids: bool = True
    score_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """Limits of one sample, in tokens of the rows' model unless stated otherwise.

    Attributes:
        available: Maximum thinking that each model's context holds, in its own tokens.
        whole: Maximum thinking and answer together that the context of the answering model holds,
            in its own tokens.
    """

    thinking: int
    answer: int
    available: dict[Author, int]
    whole: int


@dataclass(frozen=True, slots=True)
class SynthesisContext:
    """Everything that the samples of a run share.

    Attributes:
        answering: Author of the answer.
        keep_ids: Write the student's ids into the rows.
        predictors: Boundary predictors by role, if both models write in turns.
        cut: Rule for a unit with tokens of both classes, if both models write in turns.
        home: The rows' model: rows are in its format and tokens, and so are the budgets.
        renderer: The rows' format, if that model does not generate.
        candidates: Candidates per sample, or per place of a trace, of which one is kept.
        score_by: What ranks the candidates.
        unfit: Keep the trace's words where no candidate fits, or fail the sample.
        keeps_answer: Whether the answer of the trace is kept.
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
    unfit: Literal["keep", "fail"] = "keep"
    keeps_answer: bool = False

    @property
    def format(self) -> Renderer:
        """The rows' format."""
        if self.home in self.backends:
            return self.backends[self.home].renderer
        assert self.renderer is not None  # set where the model has no backend
        return self.renderer

    @property
    def writes_ids(self) -> bool:
        """Whether rows hold the student's ids; if it does not generate, its text is encoded."""
        native = self.home not in self.backends or self.backends[self.home].native_ids
        return self.keep_ids and self.home == "student" and native

    def limits(self, prompts: Mapping[Author, int], answering: Author | None = None) -> TokenLimits:
        """Return the limits of a text after prompts of these lengths, each in its model's tokens.

        A context that cannot hold both budgets is divided: the answer gets what the thinking
        leaves, at least a quarter and at most ``answer_tokens``; the thinking gets the rest. Raises
        ``SampleFailed`` with reason ``prompt_too_long``.
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
                    f"the problem takes {prompts[author]} of the {author}'s "
                    f"{backend.context_tokens} tokens of context",
                )
        own = available[answering]
        answer = min(self.answer_tokens, max(own - self.thinking_tokens, own // 4))
        available[answering] = own - answer
        thinking = self.thinking_tokens
        if self.home in available:
            thinking = available[self.home] = min(thinking, available[self.home])
        return TokenLimits(thinking, answer, available, own)
