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
    """A run directory."""
    second: Path
    """Another run directory."""
    out: Path
    """The directory of the new run; must not exist or be empty, unless `fresh`."""
    ratio: str = "1:1"
    """Samples of the first run to samples of the second."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draw: which sample comes from which run."""
    fresh: bool = False
    """Start over; an existing run is moved to `<directory>.old-1` (-2, …)."""


class FilterConfig(Config):
    """Quarantine unfit samples of a run, each with its reasons; the run itself is unchanged.

    The new run holds the samples that pass, quarantine.jsonl the others.
    """

    run: Path
    """The run directory."""
    out: Path
    """The directory of the new run; must not exist or be empty, unless `fresh`."""
    skip: CommaList = ()
    """Rules not to apply, separated by commas: `truncated`, `looping`, `empty_answer`, `no_code`,
    `chat_markers`, `language`, `near_duplicate`, `in_evaluation`, `wrong_answer`."""
    require_code: bool = False
    """Apply `no_code` to every sample; otherwise it is applied where the English text of the
    problem asks for a program."""
    against: tuple[Path, ...] = ()
    """Files of evaluation problems that no sample may resemble (.jsonl, .json, .parquet, .csv)."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Map field names of those files to tessy's: `prompt=question,id=uid`."""
    reference: str = Field(default="reference", min_length=1)
    """Field of the input row with a short reference answer; rows without one pass."""
    fresh: bool = False
    """Start over; an existing run is moved to `<directory>.old-1` (-2, …)."""


class ExportConfig(Config):
    """Write the samples of a run as training data."""

    run: Path
    """The run directory."""
    to: str = Field(min_length=1)
    """`messages`, `sharegpt`, `dialogs` (TESSY-Code-80K), `parquet`, `hf` (a folder), `tokens`."""
    out: Path | None = None
    """The file (.jsonl; .parquet for `parquet` and `tokens`), or a folder for `hf`; None:
    `export/<format>…` in the run directory."""
    loss: str = "all"
    """Authors in the loss, for `tokens`: `all`, `student`, `teacher`, `student=1,teacher=0.5`."""
    tokenizer: str | None = Field(default=None, min_length=1)
    """For `tokens`: folder or hub id of the student's tokenizer; None: as in the run."""
    licence: str | None = None
    """Licence of the data, for the data card: an SPDX identifier, such as `cc-by-4.0`."""

    @field_validator("licence")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        """Stands in the card's YAML as it is."""
        if value is not None and not _SPDX.fullmatch(value):
            raise PydanticCustomError(
                "licence", "expected an SPDX identifier such as cc-by-4.0 or mit"
            )
        return value


class CompareConfig(Config):
    """Show runs side by side: tables, and one self-contained page with example texts."""

    runs: tuple[Path, ...] = ()
    """Run directories, at least one."""
    out: Path = Path("compare.html")
    """The page; an existing file is replaced."""
    examples: int = Field(default=5, ge=0)
    """Problems shown with the text of every run."""
