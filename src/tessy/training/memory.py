"""Estimate of the memory that training needs on each device."""

from __future__ import annotations

from dataclasses import dataclass

_MASTER_BYTES = 4  # float32 weights
_STATE_BYTES = 12  # a gradient and two moments of AdamW, in float32
_CAST_BYTES = 2  # bfloat16 copies of float32 weights in the forward pass
_HIDDEN_COPIES = 16  # activations of a layer, in hidden sizes; with those of the MLP below
_MLP_COPIES = 4
_ACTIVATION_BYTES = 4


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What the memory of a training depends on."""

    parameters: int
    trainable: int  # all, or those of the adapter
    hidden: int
    intermediate: int
    layers: int


def training_bytes(
    model: ModelSize, tokens: int, *, gpu: bool, shards: int, checkpointing: bool, mask: bool
) -> int:
    """Return bytes per device for micro batches of ``tokens``; an estimate, about 30 % off.

    Args:
        model: The model.
        tokens: Tokens of a micro batch.
        gpu: Whether weights that are not trained, and copies for computing, are bfloat16.
        shards: Number of devices that share weights and states (FSDP, ZeRO-3).
        checkpointing: Whether activations are recomputed.
        mask: Whether attention has a mask of tokens by tokens.
    """
    if model.trainable == model.parameters:
        per_parameter = _MASTER_BYTES + _STATE_BYTES + (_CAST_BYTES if gpu and shards == 1 else 0)
        states = model.parameters * per_parameter / shards
    else:
        frozen = model.parameters * (2 if gpu else _MASTER_BYTES)
        states = (frozen + model.trainable * (_MASTER_BYTES + _STATE_BYTES)) / shards
    layer = _HIDDEN_COPIES * model.hidden + _MLP_COPIES * model.intermediate
    width = model.layers * model.hidden + layer if checkpointing else model.layers * layer
    activations = tokens * width * _ACTIVATION_BYTES
    return int(states + activations + (tokens**2 if mask else 0))
