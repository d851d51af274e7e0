"""How many samples may be in flight: pure state machines that own no tasks.

A server whose KV cache is overfilled evicts prefixes that are still needed and prefills many times
as much, so samples are admitted by the room they will need, not by a guess at their number.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tessy.core.formatting import percent, tally
from tessy.core.records import Author
from tessy.core.statistics import quantile

DEFAULT_CONCURRENCY = 32  # samples on a server that does not say how much fits
FILL = 0.9  # of a cache that may be promised away
PERCENTILE = 0.8  # of the lengths so far: what a sample is expected to need
SETTLED = 20  # samples that must have ended before their lengths count: short ones end first

Job = TypeVar("Job")
Job_contra = TypeVar("Job_contra", contravariant=True)


class Admission(Protocol[Job_contra]):
    """Decides whether one more job may start."""

    def try_admit(self, job: Job_contra, /) -> bool:
        """Admit ``job`` if there is room now."""
        ...

    def finished(self, job: Job_contra, tokens: int | None, /) -> None:
        """An admitted job ended.

        Args:
            job: The job.
            tokens: Tokens it generated; None if that is no estimate for other samples.
        """
        ...


class Slots:
    """At most so many jobs at a time, whatever they are."""

    def __init__(self, concurrency: int) -> None:
        """Allow ``concurrency`` jobs, at least 1."""
        self._free = max(1, concurrency)

    def try_admit(self, job: object, /) -> bool:
        """Admit one more if a slot is free."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def finished(self, job: object, tokens: int | None, /) -> None:
        """Free its slot."""
        self._free += 1


@dataclass(frozen=True, slots=True)
class Claim:
    """What a sample will take up, wherever it goes.

    Attributes:
        key: The sample.
        prompts: Length of the question by the models it needs, in their own tokens.
    """

    key: str
    prompts: Mapping[Author, int]


@dataclass(frozen=True, slots=True)
class _ReplicaMemory:
    """A sample on its replicas, by the models it needs (two of them may be on one server)."""

    claim: Claim
    homes: Mapping[Author, str]

    def prompts(self) -> list[tuple[str, int]]:
        """Replica and prompt length, one for each model."""
        return [(home, self.claim.prompts[author]) for author, home in self.homes.items()]


class KvAdmission:
    """Admits samples while every replica they use has room for prompt and expected length.

    A replica that holds nothing always takes one sample, however small its cache, so a run cannot
    come to a stand.
    """

    def __init__(
        self,
        capacities: Mapping[str, int | None],
        *,
        first_guess_tokens: int,
        concurrency: int | None = None,
    ) -> None:
        """Nothing is in flight.

        Args:
            capacities: Tokens of KV cache by replica, of every role; None where unknown.
            first_guess_tokens: What a sample is expected to write until enough have ended: half
                the thinking budget.
            concurrency: Never more samples than this, and as many on a replica of unknown
                capacity; None: no such limit, and :data:`DEFAULT_CONCURRENCY` on such a replica.
        """
        self._capacities = dict(capacities)
        self._guess = first_guess_tokens
        self._lengths: list[int] = []  # ascending
        self._places: dict[str, _ReplicaMemory] = {}
        self._prompts = dict.fromkeys(self._capacities, 0)  # tokens, by replica
        self._counts = dict.fromkeys(self._capacities, 0)  # prompts, by replica
        self._samples = dict.fromkeys(self._capacities, 0)  # samples, by replica
        self.concurrency = concurrency

    def learn(self, replica: str, capacity: int | None) -> None:
        """Set the ``capacity`` of a server in tokens; None leaves it unknown."""
        if capacity is not None:
            self._capacities[replica] = capacity

    @property
    def expected_tokens(self) -> int:
        """What a sample is expected to write."""
        if len(self._lengths) < SETTLED:
            return self._guess
        return quantile(self._lengths, PERCENTILE)

    @property
    def in_flight(self) -> int:
        """Samples admitted and not finished."""
        return len(self._places)

    def reserved(self, replica: str) -> int:
        """Return tokens promised away on ``replica``."""
        return self._prompts.get(replica, 0) + self._counts.get(replica, 0) * self.expected_tokens

    def try_admit(self, claim: Claim, homes: Mapping[Author, str]) -> bool:
        """Admit a sample if there is room.

        Args:
            claim: What it will take up.
            homes: The replica of each model it needs.
        """
        if claim.key in self._places:
            raise ValueError(f"{claim.key} is in flight already")
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            return False
        place = _ReplicaMemory(claim, homes)
        needs: dict[str, int] = {}
        for replica, tokens in place.prompts():
            needs[replica] = needs.get(replica, 0) + tokens + self.expected_tokens
        if not all(self._fits(replica, need) for replica, need in needs.items()):
            return False
        self._places[claim.key] = place
        self._book(place, 1)
        return True

    def moved(self, key: str, author: Author, replica: str) -> None:
        """A sample's model is on another replica, full or not; a key not in flight is ignored."""
        place = self._places.get(key)
        if place is None:
            return
        self._book(place, -1)
        place = self._places[key] = _ReplicaMemory(place.claim, {**place.homes, author: replica})
        self._book(place, 1)

    def finished(self, key: str, tokens: int | None) -> None:
        """A sample ended: free its room, and learn from its length if that is given."""
        self._book(self._places.pop(key), -1)
        if tokens is not None:
            insort(self._lengths, tokens)

    def explain(self) -> str:
        """Return one sentence for the log."""
        unknown = sorted(name for name, size in self._capacities.items() if size is None)
        each = DEFAULT_CONCURRENCY if self.concurrency is None else None
        if len(unknown) == len(self._capacities):
            limit = f"{each} samples a server" if each else f"{self.concurrency} samples at a time"
            return (
                f"in flight: {limit}; no server tells the size of its KV cache, so set "
                "--concurrency to what they can hold"
            )
        known = tally({name: size for name, size in self._capacities.items() if size})
        rest = ""
        if unknown:
            limit = f" (at most {each} samples on each)" if each else ""
            rest = f"; unknown: {', '.join(unknown)}{limit}"
        cap = "" if self.concurrency is None else f", at most {self.concurrency} samples at a time"
        caches = f"{percent(FILL, 0)} of the KV caches ({known} tokens{rest})"
        return f"in flight: what fits into {caches}{cap}"

    def _fits(self, replica: str, need: int) -> bool:
        samples = self._samples.get(replica, 0)
        capacity = self._capacities.get(replica)
        if samples == 0:
            return True
        if capacity is None:
            return self.concurrency is not None or samples < DEFAULT_CONCURRENCY
        return self.reserved(replica) + need <= FILL * capacity

    def _book(self, place: _ReplicaMemory, sign: int) -> None:
        for replica, tokens in place.prompts():
            self._prompts[replica] = self._prompts.get(replica, 0) + sign * tokens
            self._counts[replica] = self._counts.get(replica, 0) + sign
        for replica in set(place.homes.values()):
            self._samples[replica] = self._samples.get(replica, 0) + sign


class KvGate(Generic[Job]):
    """A :class:`KvAdmission` for jobs of any type."""

    def __init__(
        self,
        admission: KvAdmission,
        claim: Callable[[Job], Claim],
        homes: Callable[[Job], Mapping[Author, str]],
    ) -> None:
        """Nothing waits.

        Args:
            admission: What decides.
            claim: What a job will take up, wherever; asked once a job.
            homes: The replica of each model it would be on now; asked at every try, because
                replicas go and come back while it waits.
        """
        self._admission = admission
        self._claim = claim
        self._homes = homes
        self._waiting: tuple[Job, Claim] | None = None
        self._keys: dict[int, str] = {}  # by identity of the job: jobs need not be hashable

    def try_admit(self, job: Job, /) -> bool:
        """Admit ``job`` if there is room."""
        if self._waiting is None or self._waiting[0] is not job:
            self._waiting = (job, self._claim(job))
        claim = self._waiting[1]
        if not self._admission.try_admit(claim, self._homes(job)):
            return False
        self._keys[id(job)] = claim.key
        self._waiting = None
        return True

    def finished(self, job: Job, tokens: int | None, /) -> None:
        """Free its room."""
        self._admission.finished(self._keys.pop(id(job)), tokens)
