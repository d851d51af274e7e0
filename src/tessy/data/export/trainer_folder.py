"""Folders for other trainers: the data, a configuration, and the command that starts it.

The trainers need other versions of transformers than tessy, so they run in environments of their
own. Hyperparameters are the defaults of ``tessy sft``, on eight GPUs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tessy.config.training import SftConfig
from tessy.core.errors import InputError
from tessy.core.records import Trajectory
from tessy.data.export.format import ADVICE, ExportFormat, ExportJob, ExportResult
from tessy.data.export.provenance import role_of
from tessy.storage.atomic import new_folder

_GPUS = 8
_CONTEXT_TOKENS = 40_960  # as in the paper
WARMUP_SHARE = 0.03  # of the steps; the paper states none, XTuner uses this in its examples
Files = Mapping[str, str]  # text by file name


class TrainingSettings:
    """What a configuration contains: absolute paths, the student, and hyperparameters."""

    def __init__(self, job: ExportJob, data_name: str) -> None:
        self.folder = str(job.out.resolve())
        self.data = f"{self.folder}/{data_name}"
        self.output = f"{self.folder}-model"
        self.model = _student(job)
        defaults = SftConfig(data=job.out, out=job.out)
        self.epochs = defaults.epochs
        self.batch = defaults.batch
        self.learning_rate = defaults.highest_learning_rate
        self.accumulated = self.batch // _GPUS
        self.context_tokens = _CONTEXT_TOKENS


def _student(job: ExportJob) -> str:
    data = job.document["data_config"]
    model = data.get(f"{role_of(data).prefix}model")
    if not isinstance(model, str):
        raise InputError(
            f"{job.options.run} does not name the student, because its source runs differ in it; "
            "export one of them, or use another format"
        )
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model


def yaml(values: Mapping[str, object], remark: str) -> str:
    """Return a YAML file with a comment; values are in JSON syntax."""
    comments = "".join(f"# {line}\n" for line in remark.splitlines())
    return comments + "".join(f"{name}: {_scalar(value)}\n" for name, value in values.items())


def _scalar(value: object) -> str:
    # YAML 1.1 reads 5e-05 as text.
    return f"{value:.1e}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def trainer_format(
    name: str,
    *,
    data_name: str,
    write: Callable[[ExportJob, Iterable[Trajectory], Path], ExportResult],
    configure: Callable[[TrainingSettings], Files],
    command: str,
    options: frozenset[str] = frozenset(),
    remark: Callable[[ExportResult], str] = lambda result: "",
) -> ExportFormat:
    """Return the format of a folder for a trainer.

    Args:
        name: Name of the format.
        data_name: Name of the file of data.
        write: Writes it.
        configure: Returns the other files.
        command: Trains; `{folder}` stands for the folder.
        options: Options that apply, as in :class:`ExportFormat`.
        remark: Returns what to know about the result, if anything.
    """

    def command_of(job: ExportJob) -> str:
        return command.format(folder=shlex.quote(str(job.out.resolve())))

    def write_folder(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
        files = configure(TrainingSettings(job, data_name))
        comment = f"# {command_of(job)}\n"
        with new_folder(job.out, ADVICE) as folder:
            result = write(job, rows, folder / data_name)
            for file, text in files.items():
                comments = "" if file.endswith(".json") else comment
                (folder / file).write_text(comments + text, "utf-8")
        return result

    return ExportFormat(
        name=name,
        suffix="",
        write=write_folder,
        hint=lambda job, result: f"In an environment of {name}: {command_of(job)}{remark(result)}",
        options=options,
        entries=frozenset({data_name, "train.yaml", "train.py", "dataset_info.json"}),
    )
