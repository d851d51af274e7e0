"""Options of ``tessy lab``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tessy.config.base import Config


class LabConfig(Config):
    """Test the paper's claim with two tiny bundled models, and write a page with the result.

    The student is trained on data by TESSY and by the methods that the paper compares it with, and
    evaluated on the same questions. It can be interrupted at any time; the same command resumes it.
    """

    out: Path = Path("runs/lab")
    """Folder of the experiment; created if it does not exist."""
    full: bool = False
    """Use three students trained from other seeds, five training seeds, 50 to 1,600 problems,
    several numbers of epochs and learning rates: hours instead of minutes."""
    workers: int | None = Field(default=None, ge=1)
    """Number of processes, each with one thread; None: one per CPU core."""
    fresh: bool = False
    """Start over; an existing experiment is moved to `<folder>.old-1` (-2, …)."""
