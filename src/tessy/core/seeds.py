"""Deterministic seeds: a rerun draws the same random numbers."""

from __future__ import annotations

import hashlib

SEED_BITS = 63  # servers expect a signed 64-bit integer


def derive_seed(*parts: str | int) -> int:
    """Derive a seed in [0, 2**63) from what identifies a draw: run seed, sample key, position."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)
