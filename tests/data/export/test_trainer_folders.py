"""Folders for other trainers: data and configuration fit together."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest
import yaml  # type: ignore[import-untyped]  # ships no types

from tessy.config.training import SftConfig
from tessy.lab.bundled import student_path
from tests.support.exported_runs import TRAINERS, export, lines, place
from tests.support.sft_runs import sft_run

GPUS = 8
OPTIONS = {name: field.default for name, field in SftConfig.model_fields.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft_run(tmp_path_factory.mktemp("trainers") / "a run", 3)


def settings(run: Path, trainer: str) -> dict[str, Any]:
    """Export a run for a trainer that reads YAML, and return the configuration."""
    export(run, trainer)
    values = yaml.safe_load((place(run, trainer) / "train.yaml").read_text("utf-8"))
    assert isinstance(values, dict)
    return values


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_command_names_the_configuration(run: Path, trainer: str):
    output = export(run, trainer)
    (hint,) = [line for line in output.splitlines() if line.startswith("In an environment of")]
    command = hint.partition(": ")[2]
    file = place(run, trainer) / ("train.py" if trainer == "xtuner" else "train.yaml")
    assert file.read_text("utf-8").splitlines()[0] == f"# {command}"
    assert shlex.split(command)[-1] == str(file)


@pytest.mark.parametrize(
    ("trainer", "model", "epochs", "at_once"),
    [
        (
            "llama-factory",
            "model_name_or_path",
            "num_train_epochs",
            "per_device_train_batch_size",
        ),
        ("ms-swift", "model", "num_train_epochs", "per_device_train_batch_size"),
        ("axolotl", "base_model", "num_epochs", "micro_batch_size"),
    ],
)
def test_hyperparameters_are_those_of_sft(
    run: Path, trainer: str, model: str, epochs: str, at_once: str
):
    values = settings(run, trainer)
    assert values[model] == str(student_path())
    assert values[epochs] == OPTIONS["epochs"]
    assert values["learning_rate"] == 5e-5
    assert values[at_once] * values["gradient_accumulation_steps"] * GPUS == OPTIONS["batch"]
    # Not inside the folder, which the next export replaces.
    assert Path(values["output_dir"]).parent == place(run, trainer).parent


def test_llama_factory_finds_its_data(run: Path):
    values = settings(run, "llama-factory")
    folder = Path(values["dataset_dir"])
    entry = json.loads((folder / "dataset_info.json").read_text("utf-8"))[values["dataset"]]
    export(run, "sharegpt")
    assert entry["formatting"] == "sharegpt"
    assert lines(folder / entry["file_name"]) == lines(place(run, "sharegpt"))


def test_ms_swift_finds_its_data(run: Path):
    (data,) = settings(run, "ms-swift")["dataset"]
    export(run, "messages")
    assert lines(Path(data)) == lines(place(run, "messages"))


def test_axolotl_finds_token_ids_with_masks(run: Path):
    (dataset,) = settings(run, "axolotl")["datasets"]
    table = pq.read_table(dataset["path"])
    export(run, "tokens")
    tokens = pq.read_table(place(run, "tokens"))
    assert table.column_names == ["input_ids", "attention_mask", "labels"]
    assert table["input_ids"].to_pylist() == tokens["input_ids"].to_pylist()
    assert table["labels"].to_pylist() == tokens["labels"].to_pylist()
    masks = table["attention_mask"].to_pylist()
    assert masks == [[1] * len(ids) for ids in tokens["input_ids"].to_pylist()]
    output = export(run, "axolotl", "--loss", "student=1,teacher=0.5", code=2)
    assert "axolotl has no loss weights" in output


def test_xtuner_finds_its_data(run: Path):
    export(run, "xtuner")
    tree = ast.parse((place(run, "xtuner") / "train.py").read_text("utf-8"))
    values = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
    }
    export(run, "dialogs")
    assert values["model"] == str(student_path())
    assert lines(Path(values["data"])) == lines(place(run, "dialogs"))
    names = {node.arg: node.value for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    for option, name in (("batch", "global_batch_size"), ("epochs", "total_epoch")):
        assert ast.literal_eval(names[name]) == OPTIONS[option]
