"""``tessy train-predictor``: annotated segments in, a checkpoint out.

Started by `torchrun` or `accelerate launch`, it trains on several GPUs; the first process prints
and writes. The checkpoint is moved into place when it is complete.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from contextlib import nullcontext
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
from tessy.core.errors import ConfigError, InputError
from tessy.core.extras import check_installed
from tessy.core.formatting import percent
from tessy.core.records import Annotation
from tessy.runtime.processes import is_first_process, process_count, reports
from tessy.storage.atomic import apply_umask, new_folder
from tessy.storage.run_reader import read_config

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from tessy.boundary.training.base_model import BaseModelSpec

_EXIT_INPUT_ERROR = 2
_LIBRARIES = ("torch", "accelerate")
_VERSIONS = ("tessy", "transformers", "tokenizers", "torch", "accelerate")
_HYPERPARAMETERS = ("epochs", "batch", "learning_rate", "max_tokens", "style_weight", "seed")


def train_predictor(options: TrainPredictorConfig) -> int:
    """Train a predictor and write it to ``options.out``; return the exit code.

    Raises:
        InputError: The annotations, the base model or the options are unusable.
        StorageError: The checkpoint cannot be written.
    """
    try:
        _train(options, first=is_first_process())
    except InputError as error:
        if reports(error):
            raise
        return _EXIT_INPUT_ERROR
    return 0


def _train(options: TrainPredictorConfig, *, first: bool) -> None:
    out = options.out.expanduser().resolve()
    _check_options(options, out)
    rows = read_annotations(options.annotations)
    author_of(rows)  # refuses the annotations of both authors
    parts = by_part(rows, options.seed, options.validation_share, options.test_share)
    check_installed("training", dict.fromkeys(_LIBRARIES, "train"))
    from tessy.inference.local.model import quiet_loading

    with quiet_loading():
        _train_and_write(options, rows, parts, out, first=first)


def _train_and_write(
    options: TrainPredictorConfig,
    rows: list[Annotation],
    parts: dict[SplitPart, list[Annotation]],
    out: Path,
    *,
    first: bool,
) -> None:
    from tessy.boundary.training.base_model import load_weights, read_base
    from tessy.boundary.training.card import write_predictor_card
    from tessy.boundary.training.fit import fit
    from tessy.boundary.training.progress import TrainingProgress

    base = read_base(options)
    rule = WindowRule().scaled(options.max_tokens)
    examples, counts = encode_parts(base.codec, parts, rule)
    conventions = _conventions(options, rows, base, rule)
    setattr(base.config, KEY, conventions.model_dump(by_alias=True))
    progress = TrainingProgress(Console(), enabled=first)
    for line in _header_lines(options, conventions.author, counts, examples):
        progress.print_line(line)
    # The first process writes; the others need only a name.
    with new_folder(out, "choose another --out") if first else nullcontext(out) as folder:
        model = load_weights(base, options)
        result = fit(
            model,
            examples["train"],
            examples["validation"],
            options,
            folder=folder,
            processes=process_count(),
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
        apply_umask(folder, "training.json")
    progress.print_line(
        f"Kept epoch {result.chosen} after {result.seconds:,.0f} s on {result.device}: "
        f"{options.out}"
    )
    warning = result.best.warning()
    if warning is not None:
        progress.print_line(f"Warning: {warning}.")


def _check_options(options: TrainPredictorConfig, out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(
            f"--out: {out} exists and is not an empty folder; choose another --out, or remove it"
        )
    if options.batch % process_count():
        raise ConfigError(
            f"--batch: {options.batch} segments cannot be shared evenly by {process_count()} "
            "processes; give a multiple of their number"
        )


def _conventions(
    options: TrainPredictorConfig, rows: list[Annotation], base: BaseModelSpec, rule: WindowRule
) -> Conventions:
    data_config = read_config(options.annotations, ANNOTATIONS)["data_config"]
    annotator = data_config.get("model") or data_config.get("rule")
    folder = Path(base.name)
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    return Conventions(
        author=author_of(rows),
        window=WindowSettings(limit=rule.limit, keep=rule.keep),
        split=SplitSettings(
            seed=options.seed,
            validation_share=options.validation_share,
            test_share=options.test_share,
        ),
        annotations=AnnotationSource(
            digest=digest_of(rows), segments=len(rows), annotator=annotator
        ),
        # The name only: local paths are meaningless on another machine.
        base=folder.resolve().name if folder.is_dir() else base.name,
        versions={"python": platform.python_version(), **versions},
    )


def _header_lines(
    options: TrainPredictorConfig,
    author: str,
    counts: dict[SplitPart, PartCounts],
    examples: dict[SplitPart, list[TrainingExample]],
) -> Iterator[str]:
    yield f"Predictor of the {author} from {options.base}"
    for part, count in counts.items():
        cut = f", {count.cut_segments:,} truncated to {options.max_tokens} tokens"
        yield (
            f"  {part:<10}  {count.segments:>7,} segments of {count.questions:,} problems, "
            f"{count.tokens:,} tokens, {percent(count.style_share)} style"
            f"{cut if count.cut_segments else ''}"
        )
    steps = -(-len(examples["train"]) // options.batch)
    yield f"Up to {options.epochs} epochs of {steps:,} steps"
