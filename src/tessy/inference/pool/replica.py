"""One of several servers of a role: its state, and the choice of a server for a sample."""

from __future__ import annotations

import errno
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from tessy.inference.base import EngineInfo, ServerCounters, ServerLike

_SLACK = 1.25  # maximum load of a replica, as a multiple of its share
_NOT_LISTENING = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})


ServerT = TypeVar("ServerT", bound=ServerLike)
ServerT_co = TypeVar("ServerT_co", bound=ServerLike, covariant=True)


@dataclass(eq=False, slots=True)
class Replica(Generic[ServerT_co]):
    """A server and its state."""

    name: str  # its URL, for messages
    engine: ServerT_co
    healthy: bool = True  # it gets requests
    doubtful: bool = False  # it was unhealthy and has served nothing since
    failures: int = 0  # failed requests in a row, over all samples
    served: int = 0  # chunks received from it
    calls: int = 0  # calls of its engine; each sends at least one request
    begun: int = 0  # requests of these that it has served something of
    samples: int = 0  # samples that have it as their home
    info: EngineInfo | None = None  # result of its last probe
    trouble: str = ""  # why it is unhealthy
    misconfigured: bool = False  # it answers, but no request can work there

    async def counters(self) -> ServerCounters | None:
        """Return what its server has counted since its start; None without counters."""
        read = getattr(self.engine, "counters", None)
        counters: ServerCounters | None = None if read is None else await read()
        return counters

    def begin_count(self) -> None:
        """Start the engine's count of received tokens, if it has one."""
        begin = getattr(self.engine, "begin_count", None)
        if begin is not None:
            begin()

    def compare_count(self, generated: int) -> None:
        """Compare the engine's count with what its server has generated, if it has one."""
        compare = getattr(self.engine, "compare_count", None)
        if compare is not None:
            compare(generated)

    @property
    def requests(self) -> int:
        """Requests sent to it, including those that its engine repeated in another form."""
        repeated: int = getattr(self.engine, "repeated_requests", 0)
        return self.calls + repeated

    @property
    def capacity(self) -> int | None:
        """Tokens of KV cache; None if unknown."""
        return self.info.capacity_tokens if self.info else None

    async def check(self) -> EngineInfo | None:
        """Probe it again, as it may have been restarted; None if its health check fails."""
        health = getattr(self.engine, "health", None)  # cheaper than a probe
        if health is not None and not await health():
            return None
        return await self.engine.probe()


def choose(key: str, replicas: Sequence[Replica[ServerT]]) -> Replica[ServerT]:
    """Return the replica for a new sample, from at least one.

    Rendezvous hashing ranks the replicas anew for each key, so when a replica fails, only its own
    samples move. A replica that holds more than its share (by capacity) is skipped.
    """

    def rank(replica: Replica[ServerT]) -> bytes:
        pair = f"{replica.name}\x1f{key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(pair, digest_size=8).digest()

    ranked = sorted(replicas, key=rank, reverse=True)
    capacities = [replica.capacity for replica in ranked]
    known = [capacity for capacity in capacities if capacity]
    weights = known if len(known) == len(ranked) else [1] * len(ranked)
    total = 1 + sum(replica.samples for replica in ranked)
    for replica, weight in zip(ranked, weights, strict=True):
        if replica.samples < math.ceil(_SLACK * total * weight / sum(weights)):
            return replica
    return ranked[0]


def not_listening(error: BaseException) -> bool:
    """Return whether ``error`` comes from a connection that was refused."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NOT_LISTENING:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def merged(infos: dict[str, EngineInfo]) -> EngineInfo:
    """Return the capabilities that all replicas share, and their capacities added."""
    all_infos = list(infos.values())
    first = next((info for info in all_infos if info.mode == "text"), all_infos[0])
    contexts = [info.context_tokens for info in all_infos if info.context_tokens is not None]
    capacities = [info.capacity_tokens for info in all_infos if info.capacity_tokens is not None]
    caching = {info.prefix_caching for info in all_infos}
    notes = [
        note if len(all_infos) == 1 else f"{name}: {note}"
        for name, info in infos.items()
        for note in info.notes
    ]
    for what, values in (
        ("model names", {info.model for info in all_infos}),
        ("ways to send ids", {info.mode for info in all_infos}),
        ("context lengths", set(contexts)),
    ):
        if len(values) > 1:
            shown = ", ".join(sorted(map(str, values)))
            notes.append(f"the servers of this role differ in their {what}: {shown}")
    return replace(
        first,
        context_tokens=min(contexts, default=None),
        capacity_tokens=sum(capacities) if len(capacities) == len(all_infos) else None,
        prefix_caching=False if False in caching else None if None in caching else True,
        streaming=all(info.streaming for info in all_infos),
        notes=tuple(notes),
    )


def unusable(info: EngineInfo, role: EngineInfo) -> str | None:
    """Return why a recovered replica cannot replace the others; None if it can."""
    if info.mode == "text" and role.mode != "text":
        return "it answers in text only, the others in token ids"
    if role.streaming and not info.streaming:
        return "it cannot stream, the others can"
    if info.context_tokens and role.context_tokens and info.context_tokens < role.context_tokens:
        return f"its context has {info.context_tokens} tokens, the others' {role.context_tokens}"
    return None
