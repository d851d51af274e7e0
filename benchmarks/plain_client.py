"""The limit: plain decoding by the same servers, each model its share of the tokens."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping

from benchmarks.measurement import ClientCounters, Measured, measure
from benchmarks.server_access import Servers
from benchmarks.workload import Workload, problems, starting_point
from tessy.core.records import Author, Problem
from tessy.tokenization.renderer import Renderer

EQUAL: Mapping[Author, float] = {"teacher": 1.0, "student": 1.0}
TURN_TOKENS = 1_400  # of both models' turns; long, so that the cost of requests is negligible


async def run_plain(
    servers: Servers,
    renderers: dict[Author, Renderer],
    *,
    concurrency: int,
    teacher_share: float,
    workload: Workload,
    warm_up_seconds: float,
    seconds: float,
    turn_tokens: int = TURN_TOKENS,
    token_seconds: Mapping[Author, float] = EQUAL,
    in_context: bool = False,
) -> Measured:
    """Keep ``concurrency`` texts in flight and measure a window.

    Args:
        servers: The servers.
        renderers: Both models' formats.
        concurrency: Texts decoded at a time.
        teacher_share: The teacher's share of the tokens.
        workload: The problems; their seed also gives the place where each text starts.
        warm_up_seconds: Time before the window.
        seconds: Length of the window.
        turn_tokens: Tokens of one turn of each model together.
        token_seconds: Relative duration of a token by model, so that as many texts are with each
            model at the start as later.
        in_context: Start each turn from the starting point of a sample, shortened by half a turn,
            so that contexts are as long as those of samples; for real servers. Otherwise texts
            start from the prompt: the speed of simulated servers does not depend on the context.
    """
    counters = ClientCounters()
    sent = itertools.count()
    turns: dict[Author, int] = {"teacher": round(turn_tokens * teacher_share)}
    turns["student"] = turn_tokens - turns["teacher"]
    thinking = max(1, workload.thinking_tokens)
    shortened = {author: max(0.0, 1 - tokens / 2 / thinking) for author, tokens in turns.items()}

    async def decode(problem: Problem, text: str, skip: int) -> None:
        prompts, ids = {}, renderers["student"].codec.encode(text)
        for author, renderer in renderers.items():
            context = ids[: round(shortened[author] * len(ids))]
            prompts[author] = [*renderer.prompt_ids(problem.messages), *context]
        while True:
            for author, tokens in turns.items():
                if skip < tokens:
                    next(sent)
                    written = [*itertools.islice(itertools.cycle(ids), skip)]  # any words
                    await servers.complete(
                        author,
                        problem.id,
                        [*prompts[author], *written],
                        max_tokens=tokens - skip,
                        ignore_eos=True,
                    )
                skip = max(0, skip - tokens)

    texts = [""] * concurrency
    if in_context:
        texts = [starting_point(i, workload, renderers["student"]).text for i in range(concurrency)]
    rng = random.Random(f"{workload.seed} plain")
    skips = [
        place_of_turn((index + rng.random()) / concurrency, turns, token_seconds)
        for index in range(concurrency)
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(decode(problem, text, skip))
            for problem, text, skip in zip(problems(workload), texts, skips, strict=False)
        ]
        measured = await measure(
            counters, servers, warm_up_seconds=warm_up_seconds, seconds=seconds
        )
        for task in tasks:
            task.cancel()
    return measured


def place_of_turn(
    part: float, turns: Mapping[Author, int], token_seconds: Mapping[Author, float]
) -> int:
    """Return the tokens of ``turns`` that are written after a ``part`` of their time."""
    remaining = part * sum(tokens * token_seconds[author] for author, tokens in turns.items())
    place = 0
    for author, tokens in turns.items():
        here = min(tokens, int(remaining / token_seconds[author]))
        place += here
        remaining -= here * token_seconds[author]
        if here < tokens:
            break
    return place
