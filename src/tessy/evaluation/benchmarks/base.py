"""The description of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a data set on the Hugging Face hub, at a fixed commit."""

    dataset: str
    revision: str  # commit, 40 hex digits
    path: str

    @property
    def source(self) -> Path:
        """Its name for :func:`tessy.storage.sources.resolve_sources`."""
        return Path(f"hf://datasets/{self.dataset}@{self.revision}/{self.path}")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark, defined as ``BENCHMARK`` by a module of this package.

    Attributes:
        name: Name on the command line.
        about: What its problems are, in a few words.
        rows: Number of its problems; None: any.
        judge: Name of its judge; None: by the problem.
        hub: Where its file is; None: the user names a file.
        sha256: Checksums of its file on the hub, and of other files with the same problems.
        fields: Names of the file's fields, by tessy's name.
        instruction: Text after each problem.
    """

    name: str
    about: str
    rows: int | None = None
    judge: str | None = None
    hub: HubFile | None = None
    sha256: frozenset[str] = frozenset()
    fields: Mapping[str, str] = field(default_factory=dict)
    instruction: str = ""
