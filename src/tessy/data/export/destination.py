"""Where an export may go."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tessy.core.errors import InputError
from tessy.storage.run_paths import RunPaths

# Files of an exported folder. A folder with any other file is not replaced.
_FOLDER = frozenset({"README.md", "data"})
ADVICE = (
    "free some space or choose another --out, and give the same command again: the run is untouched"
)


def check_place(out: Path, run: Path, suffix: str, file_suffixes: Collection[str]) -> None:
    """Refuse a place that would cost the user something, or whose name promises another format.

    Args:
        out: Where the export shall be.
        run: The run directory.
        suffix: How the name of the format's files ends; empty: the export is a folder.
        file_suffixes: Suffixes that no folder may have, because they promise a file.

    Raises:
        InputError: It lies among the run's own files, holds something else, or is of another kind.
    """
    target, home = out.resolve(), run.resolve()
    if home.is_relative_to(target) or target.parent in (home, RunPaths(home).parts):
        raise InputError(
            f"--out {out} is a place of the run's own files; choose one outside {run}, or in "
            f"{run / 'export'}"
        )
    if suffix:
        if target.exists() and not target.is_file():
            raise InputError(f"--out {out} is a folder; name a file")
        if out.suffix.lower() != suffix:
            name = f"{out.stem}{suffix}"
            raise InputError(f"--out {out}: this format is a {suffix} file; name it {name}")
        return
    if out.suffix.lower() in file_suffixes:
        raise InputError(f"--out {out}: this format is a folder, not a file; name it {out.stem}")
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    foreign = sorted({path.name for path in target.iterdir()} - _FOLDER)
    if foreign:
        raise InputError(
            f"--out {out} holds {foreign[0]!r}, which no export wrote; choose a new or empty folder"
        )
