"""Admission of samples by the KV memory of their servers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tessy.core.errors import InputError
from tessy.core.records import Author
from tessy.inference.local.jobs import BATCH_STREAMS
from tessy.runtime.admission import KvAdmission
from tessy.synthesis.sample import SampleJob
from tessy.synthesis.setup import Options, SynthesisResources

log = logging.getLogger(__name__)


def make_admission(
    options: Options, resources: SynthesisResources, lengths: Sequence[int] = ()
) -> KvAdmission:
    """Return the admission of a run whose samples so far have these lengths in tokens."""
    guess = options.thinking_tokens // 2
    for backend in resources.context.backends.values():
        guess = min(guess, (backend.context_tokens or guess * 2) // 2)
    # By server: one that plays both roles has one cache for both.
    capacities = {
        name: tokens
        for pool in resources.pools.values()
        for name, tokens in pool.capacities.items()
    }
    concurrency = options.concurrency
    if concurrency is None and any(i.mode == "local" for i in resources.infos.values()):
        concurrency = BATCH_STREAMS
    admission = KvAdmission(
        capacities, first_guess_tokens=guess, concurrency=concurrency, lengths=lengths
    )
    log.info("%s", admission.describe())
    return admission


class SampleGate:
    """Applies a :class:`~tessy.runtime.admission.KvAdmission` to samples."""

    def __init__(self, admission: KvAdmission, resources: SynthesisResources) -> None:
        self._admission, self._resources = admission, resources

    def try_admit(self, job: SampleJob, /) -> bool:
        """Admit ``job`` if it fits on the replicas that it would start on now."""
        homes: dict[Author, str] = {}
        for author, pool in self._resources.pools.items():
            # It holds nothing yet, and available replicas change while it waits.
            pool.release(job.name)
            homes[author] = home = pool.assign(job.name)
            self._admission.set_capacity(home, pool.capacities[home])
        return self._admission.try_admit(job.name, self._prompt_lengths(job), homes)

    def finished(self, job: SampleJob, tokens: int | None, /) -> None:
        """Release ``job`` and record its length unless it is None."""
        self._admission.finished(job.name, tokens)

    def _prompt_lengths(self, job: SampleJob) -> dict[Author, int]:
        lengths: dict[Author, int] = {}
        for author, backend in self._resources.context.backends.items():
            try:
                if author not in job.prompts:
                    prompt = tuple(backend.renderer.prompt_ids(job.problem.messages))
                    job.prompts[author] = prompt
                lengths[author] = len(job.prompts[author])
            except InputError:
                lengths[author] = 0  # the sample will fail with this error
        return lengths
