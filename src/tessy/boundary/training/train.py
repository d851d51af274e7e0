"""``tessy train-predictor``: annotated segments in, a checkpoint out.

Started by `torchrun` or `accelerate launch`, it trains on several GPUs; the first process prints
and writes. The checkpoint is moved into place when it is complete.
"""

from __future__ import annotations

import glob
import importlib.metadata
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tessy.boundary.annotation.directory import ANNOTATIONS, read_annotations
from tessy.boundary.classifier.conventions import (
    KEY,
    AnnotationSource,
    Conventions,
    SplitSettings,
    WindowSettings,
)
from tessy.boundary.classifier.window import WindowRule
from tessy.boundary.training.dataset import (
    PartCounts,
    TrainingExample,
    author_of,
    by_part,
    digest_of,
    encode_parts,
)
from tessy.config.predictors import SplitPart, TrainPredictorConfig
from tessy.core.errors import ConfigError, InputError, StorageError
from tessy.core.extras import check_installed
from tessy.core.formatting import percent
from tessy.core.records import Annotation, Author
from tessy.storage.atomic import make_directory, publish_folder
from tessy.storage.run_reader import read_config

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from tessy.boundary.training.base_model import BaseModelSpec

_EXIT_INPUT_ERROR = 2
_LIBRARIES = ("torch", "accelerate")
_VERSIONS = ("tessy", "transformers", "tokenizers", "torch", "accelerate")
_HYPERPARAMETERS = ("epochs", "batch", "learning_rate", "max_tokens", "style_weight", "seed")


@dataclass(frozen=True, slots=True)
class _TrainingData:
    author: Author
    parts: dict[SplitPart, list[Annotation]]
    source: AnnotationSource


def train_predictor(options: TrainPredictorConfig) -> int:
    """Train a predictor and write it to ``options.out``; return the exit code.

    Raises:
        InputError: The annotations, the base model or the options are unusable.
        StorageError: The checkpoint cannot be written.
    """
    try:
        _train(options, first=_is_first_process())
    except InputError:
        if _is_first_process():
            raise
        return _EXIT_INPUT_ERROR  # the first process reports the error
    return 0


def _train(options: TrainPredictorConfig, *, first: bool) -> None:
    out = options.out.expanduser().resolve()
    _check_options(options, out)
    data = _read(options)
    check_installed("training", dict.fromkeys(_LIBRARIES, "train"))
    from tessy.inference.local.model import quiet_loading

    with quiet_loading():
        _train_and_write(options, data, out, first=first)


def _train_and_write(
    options: TrainPredictorConfig, data: _TrainingData, out: Path, *, first: bool
) -> None:
    from tessy.boundary.training.base_model import load_weights, read_base
    from tessy.boundary.training.card import write_predictor_card
    from tessy.boundary.training.fit import fit
    from tessy.boundary.training.progress import TrainingProgress

    base = read_base(options)
    rule = WindowRule().scaled(options.max_tokens)
    examples, counts = encode_parts(base.codec, data.parts, rule)
    conventions = _conventions(options, data, base, rule)
    setattr(base.config, KEY, conventions.model_dump(by_alias=True))
    progress = TrainingProgress(Console(), enabled=first)
    for line in _header_lines(options, data, counts, examples):
        progress.print_line(line)
    with _atomic_folder(out, first=first) as folder:
        model = load_weights(base, options)
        result = fit(
            model,
            examples["train"],
            examples["validation"],
            options,
            folder=folder,
            processes=_processes(),
            progress=progress,
        )
        if not first:
            return
        base.tokenizer.save_pretrained(folder)
        write_predictor_card(
            folder,
            conventions,
            options={name: getattr(options, name) for name in _HYPERPARAMETERS},
            parts=counts,
            fit=result,
            base_on_hub=not Path(base.name).is_dir(),
        )
        _apply_umask(folder)
    progress.print_line(
        f"Kept epoch {result.chosen} after {result.seconds:,.0f} s on {result.device}: "
        f"{options.out}"
    )
    warning = result.best.warning()
    if warning is not None:
        progress.print_line(f"Warning: {warning}.")


# RANK and WORLD_SIZE are set by torchrun and accelerate launch.
def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _check_options(options: TrainPredictorConfig, out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(
            f"out: {out} exists and is not an empty folder; choose another --out, or remove it"
        )
    if options.batch % _processes():
        raise ConfigError(
            f"batch: {options.batch} segments cannot be shared evenly by {_processes()} processes; "
            "give a multiple of their number"
        )


def _read(options: TrainPredictorConfig) -> _TrainingData:
    rows = read_annotations(options.annotations)
    author = author_of(rows)
    parts = by_part(rows, options.seed, options.validation_share, options.test_share)
    data_config = read_config(options.annotations, ANNOTATIONS)["data_config"]
    annotator = data_config.get("model") or data_config.get("rule")
    return _TrainingData(
        author,
        parts,
        AnnotationSource(digest=digest_of(rows), segments=len(rows), annotator=annotator),
    )


def _conventions(
    options: TrainPredictorConfig, data: _TrainingData, base: BaseModelSpec, rule: WindowRule
) -> Conventions:
    folder = Path(base.name)
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    return Conventions(
        author=data.author,
        window=WindowSettings(limit=rule.limit, keep=rule.keep),
        split=SplitSettings(
            seed=options.seed,
            validation_share=options.validation_share,
            test_share=options.test_share,
        ),
        annotations=data.source,
        # The name only: local paths are meaningless on another machine.
        base=folder.resolve().name if folder.is_dir() else base.name,
        versions={"python": platform.python_version(), **versions},
    )


def _header_lines(
    options: TrainPredictorConfig,
    data: _TrainingData,
    counts: dict[SplitPart, PartCounts],
    examples: dict[SplitPart, list[TrainingExample]],
) -> Iterator[str]:
    yield f"Predictor of the {data.author} from {options.base}"
    for part, count in counts.items():
        cut = f", {count.cut_segments:,} truncated to {options.max_tokens} tokens"
        yield (
            f"  {part:<10}  {count.segments:>7,} segments of {count.questions:,} problems, "
            f"{count.tokens:,} tokens, {percent(count.style_share)} style"
            f"{cut if count.cut_segments else ''}"
        )
    steps = -(-len(examples["train"]) // options.batch)
    yield f"Up to {options.epochs} epochs of {steps:,} steps"


@contextmanager
def _atomic_folder(out: Path, *, first: bool) -> Iterator[Path]:
    """Yield a temporary folder; the first process creates it, and renames it to ``out``."""
    # Process ids are unique per machine only, and several machines may share the disk.
    prefix = f".{out.name}.{socket.gethostname()}."
    folder = out.with_name(f"{prefix}{os.getpid()}.partial")
    if not first:
        yield folder
        return
    _remove_stale(out.parent, prefix)
    try:
        make_directory(folder.parent)
        folder.mkdir()
    except OSError as error:
        raise StorageError(
            f"{out.parent} cannot be written: {error}; choose another --out or fix the permissions"
        ) from error
    try:
        yield folder
        try:
            publish_folder(folder, out)
        except OSError as error:
            raise StorageError(f"{out} cannot be written: {error}; choose another --out") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(parent: Path, prefix: str) -> None:
    """Remove the temporary folders of killed trainings with the same output."""
    for folder in parent.glob(f"{glob.escape(prefix)}*.partial"):
        process = folder.name.removeprefix(prefix).removesuffix(".partial")
        if process.isdecimal() and not _is_alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # the id was reused
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _apply_umask(folder: Path) -> None:
    """Apply the umask to the weights, which safetensors creates readable by the owner only."""
    for file in folder.iterdir():
        file.chmod((folder / "training.json").stat().st_mode)
