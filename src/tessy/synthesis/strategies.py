"""How a sample is made: coroutines from a question to a trajectory.

``tessy`` is the paper's method: both models write the thinking in turns, and the student writes
the answer (arXiv 2604.14164, Algorithm 1). ``sample`` is one model's own response.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from tessy.edges import edges
from tessy.errors import InputError, SampleFailed
from tessy.records import Author, Trajectory
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.desk import Desk
from tessy.synthesis.room import REQUEST_TOKENS
from tessy.synthesis.solo import Solo
from tessy.synthesis.thinking import Party, Piece
from tessy.tokens import split_tail

Strategy = Callable[[Desk], Awaitable[Trajectory]]
Prompt = tuple[int, ...]


async def tessy(desk: Desk) -> Trajectory:
    """Think together, then let the student answer.

    Raises:
        SampleFailed: The sample cannot be finished; the desk can make its failure row.
    """
    room = desk.room
    prompts = _prompts(desk)
    limits = room.limits({author: len(ids) for author, ids in prompts.items()})
    machine = Cooperation(
        _party(desk, "student", prompts["student"], limits.room["student"]),
        _party(desk, "teacher", prompts["teacher"], limits.room["teacher"]),
        key=desk.key,
        thinking_tokens=limits.thinking,
        seed=desk.seed,
        cut=room.cut,
    )
    if desk.saved is not None:
        state, pieces = desk.saved
        machine.restore(state["thinking"], map(Piece.from_json, pieces))
    done = await desk.think(machine)
    answer, answer_ids = await _answer(desk, prompts["student"], limits.answer)
    return desk.trajectory(done.ended_by, answer, answer_ids)


async def alone(desk: Desk) -> Trajectory:
    """Let the one model at the table think and answer.

    Raises:
        SampleFailed: The sample cannot be finished; the desk can make its failure row.
    """
    author = desk.room.answering
    prompt = _prompts(desk)[author]
    limits = desk.room.limits({author: len(prompt)})
    await _think(desk, author, prompt, limits.thinking)
    answer, answer_ids = await _answer(desk, prompt, limits.answer)
    return desk.trajectory(author, answer, answer_ids)


STRATEGIES: Mapping[str, Strategy] = {"tessy": tessy, "sample": alone}


def _prompts(desk: Desk) -> dict[Author, Prompt]:
    prompts: dict[Author, Prompt] = {}
    for author, seat in desk.room.seats.items():
        try:
            prompts[author] = tuple(seat.renderer.prompt_ids(desk.problem.messages))
        except InputError as error:
            raise SampleFailed("refused", f"the {author}'s chat template: {error}") from error
    return prompts


def _party(desk: Desk, author: Author, prompt: Prompt, room_tokens: int) -> Party:
    seat = desk.room.seats[author]
    return Party(
        codec=seat.renderer.codec,
        prompt=prompt,
        stop_ids=seat.renderer.thinking_stop_ids,
        request_tokens=seat.request_tokens,
        room_tokens=room_tokens,
        sees_next=desk.room.predictors[author].sees_next,
        redraws=seat.sampling.temperature > 0,
    )


async def _think(desk: Desk, author: Author, prompt: Prompt, max_tokens: int) -> None:
    """The thinking of one author; what it wrote is the desk's thought then."""
    renderer = desk.room.seats[author].renderer
    solo = Solo(
        author,
        renderer.codec,
        prompt,
        what="thinking",
        stop_ids=renderer.thinking_stop_ids,
        max_tokens=max_tokens,
        request_tokens=REQUEST_TOKENS,
        seed=lambda written: desk.seed(author, "thinking", written),
    )
    if desk.saved is not None:
        state, pieces = desk.saved
        solo.restore(state["thinking"], [i for piece in pieces for i in json.loads(piece)])
    await desk.write(solo)
    if not desk.thought.text:
        raise SampleFailed("empty_thinking", f"the {author} ended it at once")


async def _answer(desk: Desk, prompt: Prompt, max_tokens: int) -> tuple[str, list[int]]:
    """The answer to the prompt and the desk's thought: text and ids."""
    author = desk.room.answering
    renderer = desk.room.seats[author].renderer
    thought = desk.thought
    # The last unit and the end marker's white space are encoded as one, as the model knows them.
    last = [0, *edges(thought.text)][-2]
    kept, tail = split_tail(renderer.codec, thought.ids, thought.text, len(thought.text) - last)
    solo = Solo(
        author,
        renderer.codec,
        (*prompt, *kept, *renderer.close_ids(tail)),
        what="answer",
        stop_ids=renderer.answer_stop_ids,
        max_tokens=max_tokens,
        request_tokens=REQUEST_TOKENS,
        seed=lambda written: desk.seed("answer", written),
    )
    if desk.saved is not None and (state := desk.saved[0]["answer"]) is not None:
        solo.restore(state, state["ids"])
    await desk.write(solo)
    answer, ids = solo.text()
    if not answer:
        raise SampleFailed("empty_answer", f"the {author} ended its turn without an answer")
    return answer, ids
