"""Options of the commands that read runs: mix, filter, export, compare."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from tessy.config.base import CommaList, Config

_SPDX = re.compile("[A-Za-z0-9][A-Za-z0-9.+-]*")


class MixConfig(Config):
    """Join samples of two runs in a ratio, each key (problem and sample) once.

    Teacher-Mix is the mix of a `teacher-only` and a `student-only` run.
    """

    first: Path
    """Directory of the first run."""
    second: Path
    """Directory of the second run."""
    out: Path
    """Directory of the new run; must be new or empty, unless `fresh` is set."""
    ratio: str = "1:1"
    """Ratio of samples of the first run to samples of the second."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the choice between the runs."""
    fresh: bool = False
    """Start over; an existing run is moved to `<directory>.old-1` (-2, …)."""


class FilterConfig(Config):
    """Quarantine unfit samples of a run, each with its reasons; the run itself is unchanged.

    Samples that pass are copied to a new run, the others to its quarantine.jsonl.
    """

    run: Path
    """Run directory."""
    out: Path
    """Directory of the new run; must be new or empty, unless `fresh` is set."""
    skip: CommaList = ()
    """Rules to skip, separated by commas: `truncated`, `looping`, `empty_answer`, `no_code`,
    `chat_markers`, `language`, `near_duplicate`, `in_evaluation`, `wrong_answer`."""
    require_code: bool = False
    """Apply `no_code` to every sample, instead of only where the English text of the problem asks
    for a program."""
    against: tuple[Path, ...] = ()
    """Files of evaluation problems that no sample may resemble (.jsonl, .json, .parquet, .csv)."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Map field names of those files to tessy's: `prompt=question,id=uid`."""
    reference: str | None = Field(default=None, min_length=1)
    """Input field with the reference answer, for `wrong_answer`; default: the rule in README."""
    fresh: bool = False
    """Start over; an existing run is moved to `<directory>.old-1` (-2, …)."""


class ExportConfig(Config):
    """Write the samples of a run as training data."""

    run: Path
    """Run directory."""
    to: str = Field(min_length=1)
    """Format: `messages`, `sharegpt`, `dialogs` (as TESSY-Code-80K), `parquet`, `tokens`, or a
    folder: `hf`, or with a configuration of the trainer `llama-factory`, `ms-swift`, `axolotl`,
    `xtuner`."""
    out: Path | None = None
    """Output file (.jsonl; .parquet for `parquet` and `tokens`), or folder; None:
    `export/<format>…` in the run directory."""
    loss: str = "all"
    """Authors in the loss, for `tokens` and `axolotl`: `all`, `student`, `teacher`,
    `student=1,teacher=0.5`."""
    tokenizer: str | None = Field(default=None, min_length=1)
    """For `tokens` and `axolotl`: folder or hub id of the student's tokenizer; None: as in the
    run."""
    licence: str | None = None
    """Licence of the data, for the data card: an SPDX identifier, such as `cc-by-4.0`."""

    @field_validator("licence")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        """Check the identifier, which is written into YAML without quotes."""
        if value is not None and not _SPDX.fullmatch(value):
            raise PydanticCustomError(
                "licence", "expected an SPDX identifier such as cc-by-4.0 or mit"
            )
        return value


class CompareConfig(Config):
    """Compare runs in tables, and in a self-contained page with example texts."""

    runs: tuple[Path, ...] = ()
    """Run directories, at least one."""
    out: Path = Path("compare.html")
    """Output page; an existing file is replaced."""
    examples: int = Field(default=5, ge=0)
    """Number of problems shown with the text of every run."""
