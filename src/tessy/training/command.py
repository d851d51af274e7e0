"""``tessy sft``: a run in, a fine-tuned student out.

Started by `torchrun` or `accelerate launch`, it trains on several GPUs; the first process prints
and writes.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tessy.config.base import ModelConfig
from tessy.config.training import SftConfig
from tessy.core.errors import EXIT_INTERRUPTED, ConfigError, InputError, RunError
from tessy.core.extras import check_installed
from tessy.core.formatting import counted, duration, short_count, size
from tessy.data.export.provenance import public
from tessy.runtime.processes import is_first_process, process_count, reports
from tessy.storage import jsonl
from tessy.storage.atomic import archive, make_directory
from tessy.storage.lock import FileLock
from tessy.storage.run_config import DirectoryKind, open_config, read
from tessy.synthesis.data_config import weight_digests
from tessy.training.launcher import check_processes
from tessy.training.source import (
    Source,
    check_tokenizer,
    export_tokens,
    provenance,
    read_source,
)
from tessy.training.token_file import TokenFile, read_tokens

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from tessy.training.dataset import Sequences
    from tessy.training.student import StudentSpec

_EXIT_INPUT_ERROR = 2
_LIBRARIES = ("torch", "accelerate", "datasets", "matplotlib", "peft", "trl")
_VERSIONS = ("transformers", "tokenizers", "torch", "accelerate", "trl", "peft")
_RESULT_OPTIONS = ("epochs", "batch", "lora_rank", "max_tokens", "packing", "seed")
_SMALL = 50_000_000  # parameters; more threads than one only slow such a model down
_RECORD, _CARD = "sft.json", "README.md"
_KIND = DirectoryKind(
    name="fine-tuned model",
    directory="folder of a fine-tuned model",
    made_by="`tessy sft` creates such folders",
)


def sft(options: SftConfig, console: Console | None = None) -> int:
    """Fine-tune the student, write it to ``options.out``, and return the exit code.

    Raises:
        InputError: The data, the model or the options are unusable.
        StorageError: A file cannot be written.
    """
    first = is_first_process()
    console = console or Console(quiet=not first)
    _interrupt_once()
    try:
        check_processes()
        _check_batch(options)
        source = read_source(options)
        check_installed("sft", dict.fromkeys(_LIBRARIES, "train"))
        out = options.out.expanduser().resolve()
        if first:
            _check_out(out)
        check_tokenizer(source)
        with ExitStack() as stack:
            if first:
                _open(out, stack, fresh=options.fresh)
            _run(options, source, out, console)
    except InputError as error:
        if reports(error):
            raise
        return _EXIT_INPUT_ERROR
    except KeyboardInterrupt:
        if first:
            print(f"tessy: interrupted{_after_interruption(options)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _interrupt_once() -> None:
    """Ignore interruptions after the first in a process of a launcher.

    The terminal sends Ctrl-C to all processes, and the launcher sends it to each of them again; it
    also kills a process that does not end.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    if process_count() > 1 and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, on_signal)


def _after_interruption(options: SftConfig) -> str:
    """Return what the same command does after an interruption, as the end of a sentence."""
    out = options.out.expanduser()
    if (out / _CARD).is_file() or not (out / _RECORD).is_file():
        return ""
    if not _has_checkpoints(out):
        return " before the end of the first epoch; the same command starts over"
    command = "the same command" + (" without --fresh" if options.fresh else "")
    return f"; {command} resumes it from the last epoch"


def _has_checkpoints(out: Path) -> bool:
    return any(out.glob(f"checkpoint-*/{_RECORD}"))


def _check_batch(options: SftConfig) -> None:
    at_once = options.device_batch * process_count()
    if options.batch % at_once:
        raise ConfigError(
            f"--batch: {options.batch} sequences cannot be shared evenly by "
            f"{_processes(process_count())} with --device-batch {options.device_batch}; give a "
            f"multiple of {at_once}"
        )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _check_out(out: Path) -> None:
    """Refuse a folder with other files than those of a fine-tuning."""
    if not out.exists() or (out / _RECORD).is_file():
        return
    if not out.is_dir() or any(path.name != "run.lock" for path in out.iterdir()):
        raise ConfigError(
            f"--out: {out} exists and was not written by `tessy sft`; choose another --out"
        )


def _open(out: Path, stack: ExitStack, *, fresh: bool) -> None:
    """Create and lock the folder; an existing one is moved away if ``fresh``."""
    try:
        make_directory(out)
        if fresh and (out / _RECORD).exists():
            with FileLock(out / "run.lock"):
                archive(out)
            make_directory(out)
        stack.enter_context(FileLock(out / "run.lock"))
    except OSError as error:
        raise RunError(f"{out} cannot be used: {error}; choose another --out") from error


def _run(options: SftConfig, source: Source, out: Path, console: Console) -> None:
    from tessy.inference.local.model import hide_loading_bar, quiet_loading
    from tessy.training.student import read_student

    hide_loading_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)  # advice on options that sft sets itself
    with quiet_loading():
        student = read_student(source.model, options.lora_rank)
        data, document = _open_data(options, source, student, out)
        if (out / _CARD).is_file():
            console.print(f"{options.out} is finished; --fresh starts over", soft_wrap=True)
            return
        _train(options, source, student, data, document, out, console)


def _open_data(
    options: SftConfig, source: Source, student: StudentSpec, out: Path
) -> tuple[TokenFile, dict[str, Any]]:
    """Return the token ids, exported if need be, and the content of sft.json.

    Other processes wait until the first one has checked and written both.
    """
    path = out / "tokens.parquet" if source.is_run else source.path
    if is_first_process():
        new = out / "tokens.new.parquet" if source.is_run else path
        if source.is_run:
            export_tokens(source, new)
        try:
            data = read_tokens(new, options.max_tokens, source=source.path)
            _check_length(student, data)
            _record(options, source, data, out)
            if source.is_run:
                new.replace(path)
        finally:
            if source.is_run:
                new.unlink(missing_ok=True)
    _wait_for_all()
    return read_tokens(path, options.max_tokens), read(out / _RECORD, _KIND)


def _wait_for_all() -> None:
    if process_count() > 1:
        import torch
        from accelerate import PartialState  # type: ignore[import-untyped]  # ships no types

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()


def _check_length(student: StudentSpec, data: TokenFile) -> None:
    from tessy.boundary.classifier.conventions import position_limit

    limit = position_limit(student.config)
    if limit is not None and data.longest > limit:
        raise ConfigError(
            f"the longest row has {data.longest:,} tokens, but the model {student.name!r} reads "
            f"{limit:,}; give --max-tokens {limit} to leave longer rows out"
        )


def _record(options: SftConfig, source: Source, data: TokenFile, out: Path) -> None:
    """Write sft.json, or check that it has the same options."""
    path = Path(source.model).expanduser()
    values = {
        "model": str(path.resolve()) if path.is_dir() else source.model,
        "data": data.digest,
        "loss": source.loss,
        "learning_rate": options.highest_learning_rate,
        **{name: getattr(options, name) for name in _RESULT_OPTIONS},
        # A resumed adapter needs the same base weights, and a folder can have others by then.
        **weight_digests({"student": ModelConfig(model=source.model)}),
    }
    counts = {name: getattr(data, name) for name in ("rows", "left_out", "tokens", "learned")}
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    facts = {
        "config": options.model_dump(mode="json"),
        "software": {"python": platform.python_version(), **versions},
        "data": {**provenance(data.metadata, data.digest), **counts, "longest": data.longest},
    }
    open_config(
        out / _RECORD,
        _KIND,
        jsonl.plain_object(facts),
        jsonl.plain_object(values),
        lambda: _has_checkpoints(out) or (out / _CARD).is_file(),
        values,
    )


def _train(
    options: SftConfig,
    source: Source,
    student: StudentSpec,
    data: TokenFile,
    document: Mapping[str, Any],
    out: Path,
    console: Console,
) -> None:
    import torch

    from tessy.boundary.training.progress import TrainingProgress
    from tessy.training.card import write_model_card
    from tessy.training.checkpoints import checkpoints, remove_incomplete
    from tessy.training.curves import epoch_losses, steps_of, write_curves
    from tessy.training.dataset import load_sequences
    from tessy.training.trainer import arguments, fit

    if not torch.cuda.is_available() and student.size.parameters < _SMALL:
        torch.set_num_threads(1)
    first = is_first_process()
    settings = arguments(options, out, process_count())
    cache = out / "cache"
    if first:
        remove_incomplete(out)
    with settings.main_process_first():
        sequences = load_sequences(data, packing=options.packing, batch=options.batch, cache=cache)
    progress = TrainingProgress(console, ("epoch", "step", "mean loss"), enabled=first)
    for line in _header(options, source, student, data, sequences):
        progress.print_line(line)
    for folder in checkpoints(out)[-1:]:
        progress.print_line(f"  resumed    from {folder.name}")
    facts = {name: document.get(name) for name in ("tessy", "data_config", "data", "software")}
    result = fit(student, sequences, options, settings, facts=facts, progress=progress)
    if not first:
        return
    shutil.rmtree(cache, ignore_errors=True)
    write_curves(out, result.history, options.epochs)
    write_model_card(
        out,
        document,
        epochs=epoch_losses(steps_of(result.history), options.epochs),
        seconds=result.seconds,
        device=result.device,
        processes=process_count(),
    )
    peak = f", at most {size(result.peak_bytes)} of GPU memory" if result.peak_bytes else ""
    progress.print_line(
        f"{options.out}: {duration(result.seconds)} on {result.device}{peak}; loss.svg shows the "
        "loss, README.md the data"
    )


def _header(
    options: SftConfig,
    source: Source,
    student: StudentSpec,
    data: TokenFile,
    sequences: Sequences,
) -> Iterator[str]:
    """Yield what is about to be trained, before anything is loaded."""
    count = process_count()
    trained = f"LoRA rank {options.lora_rank}, " if options.lora_rank else ""
    yield (
        f"Fine-tuning {public(source.model)}: {trained}"
        f"{short_count(student.size.trainable)} of {short_count(student.size.parameters)} "
        "parameters"
    )
    left_out = ""
    if data.left_out:
        left_out = f"; {counted(data.left_out, 'row')} of more than {options.max_tokens:,} left out"
    yield (
        f"  data       {counted(data.rows, 'row')}, {data.tokens:,} tokens read, "
        f"{data.learned:,} learned (--loss {source.loss}); longest row {data.longest:,} "
        f"tokens{left_out}"
    )
    steps = -(-sequences.count // options.batch)
    packed = "packed " if sequences.count < data.rows else ""
    micro = options.batch // (options.device_batch * count)
    rate = f"{options.highest_learning_rate:g}"
    if options.learning_rate is None:
        rate += f" (default {'of an adapter' if options.lora_rank else 'for all weights'})"
    total, epochs = counted(steps * options.epochs, "step"), counted(options.epochs, "epoch")
    yield (
        f"  steps      {total}: {epochs} of {steps:,}, a step of {options.batch} of the "
        f"{sequences.count:,} {packed}sequences; learning rate up to {rate}"
    )
    yield (
        f"  processes  {count} (world size), each {options.device_batch} "
        f"sequence{'' if options.device_batch == 1 else 's'} at a time, {micro} times a step"
    )
    yield f"  memory     about {size(_memory(options, student, data))} per device (estimate)"


def _memory(options: SftConfig, student: StudentSpec, data: TokenFile) -> int:
    import torch

    from tessy.training.launcher import is_sharded
    from tessy.training.memory import training_bytes

    return training_bytes(
        student.size,
        data.longest * options.device_batch,
        gpu=torch.cuda.is_available(),
        shards=process_count() if is_sharded() else 1,
        checkpointing=options.gradient_checkpointing,
        mask=student.attention == "sdpa",
    )
