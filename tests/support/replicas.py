"""The state of the replicas of a pool."""

from typing import Any

from tessy.inference.pool.retry import Failover


def healthy(pool: Failover[Any]) -> tuple[str, ...]:
    """Return the names of the replicas that get requests."""
    return tuple(replica.name for replica in pool._replicas if replica.healthy)
