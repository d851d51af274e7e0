"""Checks of the destination of an export."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tessy.core.errors import InputError
from tessy.storage.run_paths import RunPaths

# Entries of an exported folder. A folder with any other entry is not replaced.
_FOLDER = frozenset({"README.md", "data"})
ADVICE = "free some space or choose another --out, then run the command again; the run is unchanged"


def check_destination(out: Path, run: Path, suffix: str, file_suffixes: Collection[str]) -> None:
    """Refuse a destination that would overwrite other files or whose suffix is misleading.

    Args:
        out: Destination of the export.
        run: The run directory.
        suffix: File suffix of the format; empty if the export is a folder.
        file_suffixes: Suffixes of all file formats, which a folder may not have.

    Raises:
        InputError: ``out`` lies among the files of the run, has other content, or is a folder
            instead of a file or vice versa.
    """
    target, home = out.resolve(), run.resolve()
    if home.is_relative_to(target) or target.parent in (home, RunPaths(home).parts):
        raise InputError(
            f"--out {out} lies among the run's own files; choose a path outside {run}, or in "
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
            f"--out {out} contains {foreign[0]!r}, which is not part of an export; choose a new or "
            "empty folder"
        )
