"""Admission of samples by the KV memory of their servers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from tessy.core.errors import InputError
from tessy.core.records import Author
from tessy.runtime.admission import DEFAULT_CONCURRENCY, Claim, KvAdmission, KvGate
from tessy.synthesis.sample import SampleJob
from tessy.synthesis.setup import Options, SynthesisResources

log = logging.getLogger(__name__)


def make_gate(
    options: Options, resources: SynthesisResources, lengths: Sequence[int] = ()
) -> tuple[KvAdmission, KvGate[SampleJob]]:
    """Return the admission of a run and the gate that applies it to samples.

    Args:
        options: Options of the run.
        resources: Its models.
        lengths: Lengths of its samples so far, in tokens.
    """
    admission = _admission(options, resources, lengths)
    claim, homes = (
        partial(_claim, resources=resources),
        partial(starting_replicas, resources=resources),
    )
    return admission, KvGate(admission, claim, partial(homes, admission=admission))


def _admission(
    options: Options, resources: SynthesisResources, lengths: Sequence[int]
) -> KvAdmission:
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
        concurrency = DEFAULT_CONCURRENCY  # the batch size of a model in this process
    admission = KvAdmission(
        capacities, first_guess_tokens=guess, concurrency=concurrency, lengths=lengths
    )
    log.info("%s", admission.describe())
    return admission


def _claim(job: SampleJob, resources: SynthesisResources) -> Claim:
    """Return the memory claim of a sample; called when it is next to start."""
    prompts: dict[Author, int] = {}
    for author, backend in resources.context.backends.items():
        try:
            job.prompts[author] = tuple(backend.renderer.prompt_ids(job.problem.messages))
            prompts[author] = len(job.prompts[author])
        except InputError:
            prompts[author] = 0  # the sample will fail with this error
    return Claim(job.name, prompts)


def starting_replicas(
    job: SampleJob, resources: SynthesisResources, admission: KvAdmission
) -> dict[Author, str]:
    """Return the replica of each model that a sample would start on now."""
    homes: dict[Author, str] = {}
    for author, pool in resources.pools.items():
        pool.release(job.name)  # it holds nothing yet, so another replica may suit it better now
        homes[author] = pool.assign(job.name)
        admission.set_capacity(homes[author], pool.capacities[homes[author]])
    return homes
