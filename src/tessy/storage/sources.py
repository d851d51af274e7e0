"""Input files behind the names a user gives: files, globs, folders of data sets, and the hub.

A folder is one written by ``datasets`` (``save_to_disk``), or any folder of data files. Of a data
set with several splits, ``--split`` selects one by its name, which is part of its file or folder
names: ``train-00000-of-00002.parquet``, ``data/test.jsonl``, ``validation/0.parquet``.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tessy.core.errors import ConfigError, InputError
from tessy.storage.tables import is_readable

_HUB = re.compile(r"hf:/{1,2}")  # pathlib reduces two slashes to one
_HUB_DATASET = re.compile(
    _HUB.pattern + r"datasets/(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<path>.+))?"
)
_METADATA = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")
_SPLITS = ("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval")


def resolve_sources(sources: Sequence[Path], split: str | None = None) -> list[Path]:
    """Return the files of ``sources`` in order; files on the hub are downloaded into its cache.

    A source is a file, a glob, a folder, or ``hf://datasets/OWNER/NAME[@REVISION][/PATH]``, where
    the path is that of a file or a folder, or a glob. ``split`` applies to data sets.

    Raises:
        InputError: A source has no data files, no such split, or several splits.
        ConfigError: ``split`` is given, but no source is a data set.
    """
    files: list[Path] = []
    datasets = 0
    for source in sources:
        if _HUB.match(str(source)):
            matched, is_dataset = _from_hub(str(source), split)
        elif source.is_dir():
            matched, is_dataset = _from_folder(source, split), True
        else:
            matched, is_dataset = _expand(source), False
        files += matched
        datasets += is_dataset
    if split is not None and not datasets:
        raise ConfigError(
            f"--split {split}: expected a folder or a data set on the hub, got only files; leave "
            "the option out"
        )
    return files


def hub_name(source: str) -> str | None:
    """Return the ``hf://`` name of a source on the hub; None for other sources."""
    return _HUB.sub("hf://", source) if _HUB.match(source) else None


def _expand(source: Path) -> list[Path]:
    if source.exists() or not glob.has_magic(str(source)):
        return [source]
    matched = sorted(glob.glob(str(source), recursive=True))
    if not matched:
        raise InputError(f"{source} matches no file; check the pattern (directory: {Path.cwd()})")
    return [Path(name) for name in matched]


def _from_folder(folder: Path, split: str | None) -> list[Path]:
    saved = _saved(folder / "dataset_dict.json", lambda content: map(str, content["splits"]))
    if saved:
        if split is None and len(saved) > 1:
            raise _several_splits(str(folder), saved)
        chosen = split or saved[0]
        if chosen not in saved:
            raise InputError(f"{folder} has no split {chosen!r}; it has {', '.join(saved)}")
        folder = folder / chosen
    names = _saved(
        folder / "state.json", lambda content: [file["filename"] for file in content["_data_files"]]
    )
    if not names:
        names = sorted(filter(_is_data, (str(f.relative_to(folder)) for f in folder.rglob("*"))))
        names = _of_split(str(folder), names, split)
    return [folder / name for name in names]


def _saved(path: Path, names: Callable[[Any], Iterable[str]]) -> list[str]:
    """Return the names in a JSON file of ``datasets``; none if the file does not exist."""
    if not path.is_file():
        return []
    try:
        return list(names(json.loads(path.read_bytes())))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a file of a saved data set: {error!r}") from error


def _from_hub(source: str, split: str | None) -> tuple[list[Path], bool]:
    """Return the downloaded files, and whether they were selected from several."""
    match = _HUB_DATASET.fullmatch(source)
    title = _HUB.sub("hf://", source)
    if match is None:
        raise InputError(f"{title}: expected hf://datasets/OWNER/NAME[@REVISION][/PATH]")
    from huggingface_hub import HfApi

    name, path = match["name"], match["path"]
    revision = unquote(match["revision"]) if match["revision"] else None
    hub = HfApi()
    try:
        if path and is_readable(path) and not glob.has_magic(path):
            names, is_dataset = [path], False
        else:
            listed = hub.list_repo_files(name, repo_type="dataset", revision=revision)
            data = sorted(file for file in listed if _is_data(file) and _is_below(file, path))
            names, is_dataset = _of_split(title, data, split), True
        return [
            Path(hub.hf_hub_download(name, file, repo_type="dataset", revision=revision))
            for file in names
        ], is_dataset
    except InputError:
        raise
    except Exception as error:  # errors of hub and connection have no common base class
        reason = " ".join(str(error).split())
        raise InputError(f"{title} cannot be read: {reason}") from error


def download_folder(dataset: str, revision: str, pattern: str) -> Path:
    """Return the folder with the files of a data set on the hub that match a glob, downloaded.

    Raises:
        InputError: They cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                dataset, repo_type="dataset", revision=revision, allow_patterns=pattern
            )
        )
    except Exception as error:  # errors of hub and connection have no common base class
        reason = " ".join(str(error).split())
        raise InputError(f"hf://datasets/{dataset} cannot be read: {reason}") from error


def _is_data(name: str) -> bool:
    parts = Path(name).parts
    hidden = any(part.startswith(".") for part in parts)  # like .cache of `hf download`
    return is_readable(name) and not hidden and parts[-1] not in _METADATA


def _is_below(file: str, path: str | None) -> bool:
    if path is None:
        return True
    if glob.has_magic(path):
        return Path(file).match(path)
    return file.startswith(f"{path.rstrip('/')}/")


def _of_split(title: str, names: list[str], split: str | None) -> list[str]:
    """Return the files of a split; ``names`` are relative to the data set ``title``."""
    if not names:
        raise InputError(f"{title} has no data files (.jsonl, .json, .csv, .parquet)")
    splits = [known for known in _SPLITS if any(_has_split(name, known) for name in names)]
    if split is None:
        if len(splits) > 1:
            raise _several_splits(title, splits)
        return names
    chosen = [name for name in names if _has_split(name, split)]
    tops = sorted({Path(name).parts[0] for name in chosen if len(Path(name).parts) > 1})
    if len(tops) > 1 and not any(_has_split(top, split) for top in tops):
        raise InputError(
            f"{title} has the split {split} in the folders {', '.join(tops)}, which mostly hold "
            f"the same problems; add one to the path: …/{tops[0]}"
        )
    if not chosen:
        has = f"it has {', '.join(splits)}" if splits else "its file names contain no split"
        raise InputError(f"{title} has no split {split!r}; {has}")
    return chosen


def _has_split(name: str, split: str) -> bool:
    return bool(re.search(rf"(?<![A-Za-z0-9]){re.escape(split)}(?![A-Za-z0-9])", name))


def _several_splits(title: str, splits: Sequence[str]) -> InputError:
    return InputError(f"{title} has the splits {', '.join(splits)}; select one with --split")
