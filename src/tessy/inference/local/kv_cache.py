"""Keys and values of many sequences in one store with a row per token, so that rollback is exact.

A sequence owns rows anywhere in the store. A forward pass gathers the rows of its members
right-aligned: the one batch layout every decoder architecture of transformers masks by itself.
Layers with a sliding window keep all of their tokens, because a rollback would need them.

Shapes: B sequences, Q new tokens each at most, T tokens each at most, H key heads, D their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import Cache, PreTrainedConfig
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

Rows = npt.NDArray[np.int64]

_FIRST_ROWS = 4096
_ROWS_AT_ONCE = 32  # rows allocated at a time for a growing sequence
_PADDING = 0  # the row that stands for "no token"; always zeros, so that masked values are finite


@dataclass(eq=False, slots=True)
class PooledSequence:
    """One sequence in a :class:`KvPool`: the ids whose keys and values are stored, and where."""

    ids: list[int] = field(default_factory=list)
    rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))


class KvPool:
    """The free rows, and the rows that the current forward pass reads and writes."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 1  # rows that exist, the padding row included
        self._free: list[int] = []
        self.write = torch.empty(0, dtype=torch.long)  # [B * Q]
        self.read = torch.empty(0, dtype=torch.long)  # [B * T]
        self.past = 0  # T - Q
        self.padded = False  # some rows have fewer than Q new tokens

    def take(self, count: int) -> Rows | None:
        """Return ``count`` free rows; None if the pool would exceed its capacity."""
        missing = count - len(self._free)
        if missing > 0:
            limit = self.capacity + 1
            size = min(limit, max(self.size + missing, 2 * self.size, _FIRST_ROWS))
            if size - self.size < missing:
                return None
            # Low rows are last, so that they are taken first.
            self._free = [*range(size - 1, self.size - 1, -1), *self._free]
            self.size = size
        taken = self._free[: -count - 1 : -1]
        del self._free[len(self._free) - count :]
        return np.asarray(taken, np.int64)

    def give(self, rows: Rows) -> None:
        """Free ``rows``."""
        self._free += rows[::-1].tolist()

    def reserve(self, sequence: PooledSequence, count: int) -> bool:
        """Allocate rows for ``count`` more ids of ``sequence``; return False without enough."""
        missing = len(sequence.ids) + count - len(sequence.rows)
        if missing <= 0:
            return True
        rows = self.take(max(missing, _ROWS_AT_ONCE))
        if rows is None:
            rows = self.take(missing)
        if rows is None:
            return False
        sequence.rows = np.concatenate((sequence.rows, rows))
        return True

    def rollback(self, sequence: PooledSequence, length: int) -> int:
        """Drop all but the first ``length`` ids of ``sequence``; return how many remain."""
        length = min(length, len(sequence.ids))
        del sequence.ids[length:]
        self.give(sequence.rows[length:])
        sequence.rows = sequence.rows[:length]
        return length


class PoolLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers' own hook
    """The store of one layer as a transformers cache layer; its tensors are ``[rows, H, D]``."""

    def __init__(self, pool: KvPool, *, sliding: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in transformers
        self.pool = pool
        self.is_sliding = sliding

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """No-op: :meth:`update` allocates the tensors."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Store ``[B, H, Q, D]``, return ``[B, H, T, D]``, stored ones included."""
        self.keys = self._exchange(self.keys, key_states)
        self.values = self._exchange(self.values, value_states)
        batch = key_states.shape[0]
        return self._gather(self.keys, batch), self._gather(self.values, batch)

    def _exchange(self, store: Tensor | None, new: Tensor) -> Tensor:
        size = self.pool.size
        if store is None or store.shape[0] < size:
            grown = new.new_zeros((size, new.shape[1], new.shape[3]))
            if store is not None:
                grown[: store.shape[0]] = store
            store = grown
        store[self.pool.write] = new.transpose(1, 2).flatten(0, 1)
        if self.pool.padded:
            store[_PADDING] = 0
        return store

    def _gather(self, store: Tensor, batch: int) -> Tensor:
        rows = store.index_select(0, self.pool.read)
        return rows.view(batch, -1, *store.shape[1:]).transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the keys for the mask."""
        return self.pool.past + query_length, 0

    def get_seq_length(self) -> int:
        """Return where the new tokens start in the right-aligned batch."""
        return self.pool.past

    def get_max_length(self) -> int:
        """Return -1: no fixed length."""
        return -1


def pool_cache(config: PreTrainedConfig, pool: KvPool) -> Cache | None:
    """Return a cache on ``pool``; None if a layer is neither full nor sliding attention."""
    layers: list[Any] = []
    for layer in DynamicCache(config=config).layers:
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            return None
        layers.append(PoolLayer(pool, sliding=type(layer) is DynamicSlidingWindowLayer))
    return Cache(layers=layers) if layers else None


def arrange(
    pool: KvPool, members: Sequence[tuple[PooledSequence, Sequence[int]]], device: torch.device
) -> dict[str, Tensor | None]:
    """Arrange a pass over ``members``, whose rows already cover their new ids; return model inputs.

    Ids and positions are ``[B, Q]``, right-aligned; the mask is ``[B, T]``, None if all are as
    long. Sets what the pool reads and writes during the pass.
    """
    batch = len(members)
    totals = [len(sequence.ids) + len(new) for sequence, new in members]
    most_new, longest = max(len(new) for _, new in members), max(totals)
    # ids, positions and rows to write, in one array, so that one copy takes them to the device
    queries = np.zeros((3, batch, most_new), np.int64)
    read = np.full((batch, longest), _PADDING, np.int64)
    for row, ((sequence, new), total) in enumerate(zip(members, totals, strict=True)):
        start, known = most_new - len(new), len(sequence.ids)
        queries[0, row, start:] = new
        queries[1, row, start:] = np.arange(known, total)
        queries[2, row, start:] = sequence.rows[known:total]
        read[row, longest - total :] = sequence.rows[:total]
    placed = torch.from_numpy(queries).to(device)
    pool.write = placed[2].flatten()
    pool.read = torch.from_numpy(read).to(device).flatten()
    pool.past = longest - most_new
    pool.padded = any(len(new) < most_new for _, new in members)
    mask = None
    if min(totals) < longest:
        mask = (pool.read != _PADDING).view(batch, longest).long()
    return {"input_ids": placed[0], "position_ids": placed[1], "attention_mask": mask}
