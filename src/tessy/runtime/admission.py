"""Admission control: how many samples may be in flight (pure state machines)."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from tessy.core.formatting import percent, tally
from tessy.core.records import Author
from tessy.core.statistics import quantile

DEFAULT_CONCURRENCY = 32  # samples per server of unknown capacity
MAX_FILL = 0.9  # fraction of a KV cache that may be reserved
PERCENTILE = 0.8  # of observed lengths: the expected length
MIN_LENGTHS = 20  # observed lengths before they are used: short samples end first

Job_contra = TypeVar("Job_contra", contravariant=True)


class Admission(Protocol[Job_contra]):
    """Decides whether one more job may start."""

    def try_admit(self, job: Job_contra, /) -> bool:
        """Admit ``job`` if there is capacity now."""
        ...

    def finished(self, job: Job_contra, tokens: int | None, /) -> None:
        """Release an admitted job that generated ``tokens``; None if not representative."""
        ...


class Slots:
    """Admission with a fixed number of slots."""

    def __init__(self, concurrency: int) -> None:
        self._free = max(1, concurrency)

    def try_admit(self, job: object, /) -> bool:
        """Admit a job if a slot is free."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def finished(self, job: object, tokens: int | None, /) -> None:
        """Free a slot."""
        self._free += 1


class _AdmittedSample(NamedTuple):
    """Prompt length (in its own tokens) and replica of each model; both may share a server."""

    prompts: Mapping[Author, int]
    homes: Mapping[Author, str]

    def by_replica(self) -> list[tuple[str, int]]:
        """Return replica and prompt length of each model."""
        return [(home, self.prompts[author]) for author, home in self.homes.items()]


class KvAdmission:
    """Admission by the KV cache of every replica: prompt plus expected length must fit.

    An overfilled cache evicts prefixes that are still in use, which then are prefilled again. An
    empty replica always admits one sample, so that a run cannot deadlock.
    """

    def __init__(
        self,
        capacities: Mapping[str, int | None],
        *,
        first_guess_tokens: int,
        concurrency: int | None = None,
        lengths: Sequence[int] = (),
    ) -> None:
        """Initialize without samples in flight.

        Args:
            capacities: KV cache capacity of the replicas of all roles, in tokens; None if unknown.
            first_guess_tokens: Expected length of a sample until enough samples ended.
            concurrency: Maximum number of samples, also on replicas of unknown capacity; None: no
                limit, and :data:`DEFAULT_CONCURRENCY` per replica of unknown capacity.
            lengths: Lengths observed before, in tokens; if there are any, they are used at once.
        """
        self._capacities = dict(capacities)
        self._guess = first_guess_tokens
        self._lengths = sorted(lengths)
        self._min_lengths = 1 if lengths else MIN_LENGTHS
        self._admitted: dict[str, _AdmittedSample] = {}
        self._prompts = dict.fromkeys(self._capacities, 0)  # tokens, by replica
        self._counts = dict.fromkeys(self._capacities, 0)  # prompts, by replica
        self._samples = dict.fromkeys(self._capacities, 0)  # samples, by replica
        self.concurrency = concurrency

    def set_capacity(self, replica: str, capacity: int | None) -> None:
        """Update the capacity of a replica in tokens; None is ignored."""
        if capacity is not None:
            self._capacities[replica] = capacity

    @property
    def expected_tokens(self) -> int:
        """Expected number of tokens that a sample generates."""
        if len(self._lengths) < self._min_lengths:
            return self._guess
        return quantile(self._lengths, PERCENTILE)

    @property
    def in_flight(self) -> int:
        """Number of samples in flight."""
        return len(self._admitted)

    def reserved(self, replica: str) -> int:
        """Return the tokens reserved on ``replica``."""
        return self._prompts.get(replica, 0) + self._counts.get(replica, 0) * self.expected_tokens

    def try_admit(
        self, key: str, prompts: Mapping[Author, int], homes: Mapping[Author, str]
    ) -> bool:
        """Admit a sample if prompts of these lengths in tokens fit on the replicas ``homes``."""
        if key in self._admitted:
            raise ValueError(f"{key} is already in flight")
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            return False
        sample = _AdmittedSample(prompts, homes)
        needs: dict[str, int] = {}
        for replica, tokens in sample.by_replica():
            needs[replica] = needs.get(replica, 0) + tokens + self.expected_tokens
        if not all(self._fits(replica, need) for replica, need in needs.items()):
            return False
        self._admitted[key] = sample
        self._reserve(sample, 1)
        return True

    def moved(self, key: str, author: Author, replica: str) -> None:
        """Move a sample to another replica, even if it is full; unknown keys are ignored."""
        sample = self._admitted.get(key)
        if sample is None:
            return
        self._reserve(sample, -1)
        moved = sample._replace(homes={**sample.homes, author: replica})
        self._admitted[key] = moved
        self._reserve(moved, 1)

    def finished(self, key: str, tokens: int | None) -> None:
        """Release a sample and record its length unless it is None."""
        self._reserve(self._admitted.pop(key), -1)
        if tokens is not None:
            insort(self._lengths, tokens)

    def describe(self) -> str:
        """Return a description of the limits for the log."""
        unknown = sorted(name for name, size in self._capacities.items() if size is None)
        each = DEFAULT_CONCURRENCY if self.concurrency is None else None
        if len(unknown) == len(self._capacities):
            total = f"{self.concurrency} samples at a time"
            limit = f"{each} samples per server" if each else total
            return (
                f"in flight: {limit}; no server reports the size of its KV cache, so set "
                "--concurrency to match it"
            )
        known = tally({name: size for name, size in self._capacities.items() if size})
        rest = ""
        if unknown:
            limit = f" (at most {each} samples each)" if each else ""
            rest = f"; unknown: {', '.join(unknown)}{limit}"
        cap = "" if self.concurrency is None else f", at most {self.concurrency} samples at a time"
        caches = f"{percent(MAX_FILL, 0)} of the KV caches ({known} tokens{rest})"
        return f"in flight: as many as fit into {caches}{cap}"

    def _fits(self, replica: str, need: int) -> bool:
        samples = self._samples.get(replica, 0)
        capacity = self._capacities.get(replica)
        if samples == 0:
            return True
        if capacity is None:
            return self.concurrency is not None or samples < DEFAULT_CONCURRENCY
        return self.reserved(replica) + need <= MAX_FILL * capacity

    def _reserve(self, sample: _AdmittedSample, sign: int) -> None:
        for replica, tokens in sample.by_replica():
            self._prompts[replica] = self._prompts.get(replica, 0) + sign * tokens
            self._counts[replica] = self._counts.get(replica, 0) + sign
        for replica in set(sample.homes.values()):
            self._samples[replica] = self._samples.get(replica, 0) + sign
