"""The limit: plain decoding by the same servers, each model its share of the tokens."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping

from benchmarks.measurement import ClientCounters, Measured, measure
from benchmarks.server_access import Servers
from benchmarks.workload import Workload, problems, start
from tessy.core.records import Author, Problem
from tessy.tokenization.renderer import Renderer

EQUAL: Mapping[Author, float] = {"teacher": 1.0, "student": 1.0}
TURN_TOKENS = 1_400  # both models' turns together: long, so that requests cost next to nothing


async def run_plain(
    site: Servers,
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
        site: The servers.
        renderers: Both models' formats.
        concurrency: Texts decoded at a time.
        teacher_share: Share of the tokens that is the teacher's.
        workload: The questions; their seed says where each text starts, too.
        warm_up_seconds: Before the window.
        seconds: Length of the window.
        turn_tokens: Tokens after which a text is back with the same model.
        token_seconds: What a token takes, or anything in proportion to it: says how many texts are
            with each model at the start, so that it is as at any later time.
        in_context: Each text goes on from the start of a sample, again and again; it is shortened
            by what a turn adds, so that contexts are as long as those of samples. Else a text goes
            on from its question: simulated servers write as fast in any context.
    """
    gauge = ClientCounters()
    sent = itertools.count()
    turns: dict[Author, int] = {"teacher": round(turn_tokens * teacher_share)}
    turns["student"] = turn_tokens - turns["teacher"]
    thinking = max(1, workload.thinking_tokens)
    shortened = {author: max(0.0, 1 - tokens / 2 / thinking) for author, tokens in turns.items()}

    async def decode(asked: Problem, text: str, skip: int) -> None:
        prompts, ids = {}, renderers["student"].codec.encode(text)
        for author, renderer in renderers.items():
            begun = ids[: round(shortened[author] * len(ids))]
            prompts[author] = [*renderer.prompt_ids(asked.messages), *begun]
        while True:
            for author, tokens in turns.items():
                if skip < tokens:
                    next(sent)
                    written = [*itertools.islice(itertools.cycle(ids), skip)]  # any words
                    await site.complete(
                        author,
                        asked.id,
                        [*prompts[author], *written],
                        max_tokens=tokens - skip,
                        ignore_eos=True,
                    )
                skip = max(0, skip - tokens)

    texts = [""] * concurrency
    if in_context:
        texts = [start(i, workload, renderers["student"]).text for i in range(concurrency)]
    rng = random.Random(f"{workload.seed} plain")
    skips = [
        place_of_turn((index + rng.random()) / concurrency, turns, token_seconds)
        for index in range(concurrency)
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(decode(asked, text, skip))
            for asked, text, skip in zip(problems(workload), texts, skips, strict=False)
        ]
        measured = await measure(gauge, site, warm_up_seconds=warm_up_seconds, seconds=seconds)
        for task in tasks:
            task.cancel()
    return measured


def place_of_turn(
    part: float, turns: Mapping[Author, int], token_seconds: Mapping[Author, float]
) -> int:
    """Return the tokens of ``turns`` that are written after a ``part`` of their time."""
    left = part * sum(tokens * token_seconds[author] for author, tokens in turns.items())
    place = 0
    for author, tokens in turns.items():
        here = min(tokens, int(left / token_seconds[author]))
        place += here
        left -= here * token_seconds[author]
        if here < tokens:
            break
    return place
