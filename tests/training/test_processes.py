"""``tessy sft`` in several processes, and the configurations for accelerate."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tessy.core.errors import ConfigError
from tessy.training import launcher
from tests.support.sft_runs import ENVIRONMENT, command, quick_config
from tests.test_house import ROOT

pytestmark = pytest.mark.xdist_group("trl")  # which takes long to import

BIN = Path(sys.executable).parent


def run_command(*words: str, code: int = 0) -> str:
    done = subprocess.run(
        words,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


FORKED = (sys.executable, "-m", "tests.support.two_processes")
TORCHRUN = (str(BIN / "torchrun"), "--standalone", "--nproc_per_node=2", "-m", "tessy")


@pytest.mark.parametrize(
    "launch", [FORKED, pytest.param(TORCHRUN, marks=pytest.mark.long)], ids=["forked", "torchrun"]
)
def test_two_processes_train_the_same_model_as_one(
    run: Path, trained: tuple[Path, str], tmp_path: Path, launch: tuple[str, ...]
):
    one, alone = trained
    two = tmp_path / "two"
    output = run_command(*launch, *command(quick_config(run, two)))
    assert "processes  2 (world size), each 1 sequence at a time, 2 times a step" in output
    assert output.count("Fine-tuning student") == output.count("(world size)") == 1
    assert re.search(r"a step of 4 of the \d*[13579] packed", output)  # the last step is not full
    epochs = slice(output.index("epoch  step"), output.index(str(two)))
    assert output[epochs] in alone
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, two))
    for name, tensor in expected.items():
        assert (tensor - found[name]).abs().max() < 1e-5, name
    assert "2 processes" in (two / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "environment", "refused"),
    [
        (("accelerate", "launch", "--cpu", "--num_processes", "2", "-m", "tessy"), {}, True),
        (("accelerate", "launch", "--num-processes=2", "-m", "tessy"), {}, True),
        (("accelerate", "launch", "--num_processes", "2"), {"WORLD_SIZE": "2"}, False),
        (("accelerate", "launch", "--num_processes", "1"), {}, False),
        (("bash", "-c", "tessy sft --nproc_per_node 2"), {}, False),
        (("make", "--num_processes", "4"), {}, False),
    ],
)
def test_fewer_processes_than_requested_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    environment: Mapping[str, str],
    refused: bool,
):
    monkeypatch.setattr(launcher, "_parent_command", lambda: "\0".join((*words, "")))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if refused:
        with pytest.raises(ConfigError, match="asked for 2 processes but started one; use `torch"):
            launcher.check_processes()
    else:
        launcher.check_processes()


@pytest.mark.long
def test_accelerate_that_starts_one_process_is_noticed(run: Path, tmp_path: Path):
    launch = (str(BIN / "accelerate"), "launch", "--cpu", "--num_processes=2", "-m", "tessy")
    output = run_command(*launch, *command(quick_config(run, tmp_path / "out")), code=1)
    assert "tessy: the launcher was asked for 2 processes but started one" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero3"])
def test_accelerate_reads_the_examples(name: str):
    from accelerate.commands.config.config_args import (  # type: ignore[import-untyped]
        load_config_from_file,
    )

    config = load_config_from_file(str(ROOT / "examples" / "accelerate" / f"{name}.yaml"))
    assert (config.num_processes, config.mixed_precision, config.use_cpu) == (8, "bf16", False)
    if name == "fsdp2":
        assert config.distributed_type == "FSDP"
        options = config.fsdp_config
        assert options["fsdp_version"] == 2
        assert options["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    else:
        assert config.distributed_type == "DEEPSPEED"
        options = config.deepspeed_config
        assert (options["zero_stage"], options["zero3_save_16bit_model"]) == (3, True)
