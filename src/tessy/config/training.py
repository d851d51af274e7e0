"""Options of the command that fine-tunes a student: sft."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tessy.config.base import Config


class SftConfig(Config):
    """Fine-tune a student on a run, or on an exported file of token ids.

    Start it with `torchrun -m tessy sft …` or `accelerate launch -m tessy sft …` for several GPUs.
    It can be interrupted at any time; the same command resumes it from the last epoch.
    """

    data: Path
    """Run directory, or a file of `tessy export --to tokens`."""
    out: Path
    """Folder for the fine-tuned model; created if it does not exist."""
    model: str | None = Field(default=None, min_length=1)
    """Model to fine-tune: local folder or hub id; None: the student of the run."""
    loss: str | None = Field(default=None, min_length=1)
    """Authors in the loss: `all`, `student`, `teacher`, `student=1,teacher=0.5`; None: `all`, or as
    in the exported file."""
    epochs: int = Field(default=9, ge=1)
    """Number of epochs; the model of every epoch is kept."""
    batch: int = Field(default=128, ge=1)
    """Sequences per optimizer step, over all processes."""
    device_batch: int = Field(default=1, ge=1)
    """Sequences that a process reads at a time; gradients are accumulated over a batch."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Highest learning rate of AdamW; it rises for 3 % of the steps, then falls as a cosine; None:
    5e-5, or 2e-4 with `lora_rank`."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Rank of a LoRA adapter on all linear layers, with twice its value as alpha; None: all weights
    are trained."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Maximum tokens of a row; longer ones are left out, none is cut. None: no limit."""
    packing: bool = True
    """Join short rows to sequences of up to the longest row's tokens; rows stay separate in
    attention."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass, to save memory."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the order of sequences, and of new adapter weights."""
    fresh: bool = False
    """Start over; existing contents are moved to `<folder>.old-1` (-2, …)."""

    @property
    def highest_learning_rate(self) -> float:
        """The learning rate, or its default; the few weights of an adapter need larger steps.

        Source: the paper for all weights; TRL's LoRA examples for an adapter.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        return 5e-5 if self.lora_rank is None else 2e-4
