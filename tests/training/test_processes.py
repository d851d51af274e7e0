"""``tessy sft`` in several processes, and the configurations for accelerate."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tessy.core.errors import ConfigError, DeviceMemoryError
from tessy.training import command as training
from tessy.training import launcher
from tests.support.sft_runs import ENVIRONMENT, command, quick_config, sft
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


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(training, "_interrupt_once", lambda: None)


@pytest.mark.usefixtures("second_of_two")
def test_one_process_reports_what_all_find(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert sft(tmp_path / "none", tmp_path / "out", code=2) == ""
    raised: list[BaseException] = [DeviceMemoryError("the GPU's memory is too small")]

    def fail(*_: object) -> None:
        raise raised[-1]

    monkeypatch.setattr(training, "_run", fail)
    assert "the GPU's memory is too small" in sft(run, tmp_path / "out", code=2)
    raised.append(KeyboardInterrupt())
    assert sft(run, tmp_path / "out", code=130) == ""


def test_a_second_interruption_by_the_launcher_is_ignored(monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGINT)
    training._interrupt_once()
    assert signal.getsignal(signal.SIGINT) is before  # of a process without a launcher
    monkeypatch.setenv("WORLD_SIZE", "2")
    training._interrupt_once()
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.long
@pytest.mark.parametrize(
    "launch",
    [("torchrun", "--standalone", "--nproc_per_node=2"),
     ("accelerate", "launch", "--multi_gpu", "--num_processes=2")],
)  # fmt: skip
def test_a_launcher_passes_on_an_interruption(run: Path, tmp_path: Path, launch: tuple[str, ...]):
    out = tmp_path / "out"
    words = (str(BIN / launch[0]), *launch[1:], "-m", "tessy")
    process = subprocess.Popen(
        [*words, *command(quick_config(run, out, epochs=1000))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        start_new_session=True,
    )
    while not list(out.glob("checkpoint-*/sft.json")) and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, _ = process.communicate()
    message = "tessy: interrupted; the same command resumes it from the last epoch"
    assert output.count("tessy: interrupted") == output.count(message) == 1
    assert "tessy/" not in output  # no traceback of ours
    assert process.returncode == 1


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
