"""``tessy sft``: what it prints and writes, resuming, adapters, and refused input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from torch import Tensor

from tessy.config.training import SftConfig
from tessy.core.errors import ConfigError
from tessy.inference.local.model import load_model
from tessy.lab.bundled import predictor_path, student_path, teacher_path
from tessy.tokenization.families import load_renderer
from tessy.training import command, trainer
from tessy.training.checkpoints import keep_model
from tessy.training.source import read_source
from tests.support.sft_runs import sft, token_file

pytestmark = pytest.mark.xdist_group("trl")  # which takes long to import

STATES = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"}


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(next(folder.glob("*.safetensors")))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_what_will_be_trained_is_printed_first(run: Path, trained: tuple[Path, str]):
    _, output = trained
    data = token_file(run)
    header, epochs = output.split("epoch  step  mean loss\n")
    assert "Fine-tuning student: 258,656 of 258,656 parameters" in header
    assert f"13 rows, {data.tokens:,} tokens read, {data.learned:,} learned" in header
    assert f"longest row {data.longest} tokens\n" in header
    steps = re.search(r"steps +(\d+) steps: 2 epochs of (\d+), a step of 4 of the (\d+) ", header)
    assert steps
    total, per_epoch, sequences = map(int, steps.groups())
    assert (total, per_epoch) == (2 * per_epoch, -(-sequences // 4))
    assert "processes  1 (world size), each 1 sequence at a time, 4 times a step" in header
    assert f"of the {sequences} packed sequences; learning rate up to 0.001\n" in header
    assert sequences < 13
    assert re.search(r"memory +about \d+(\.\d+)? MB per device", header)
    assert [line.split()[:2] for line in epochs.splitlines()[:2]] == [
        ["1", str(per_epoch)],
        ["2", str(total)],
    ]


def test_the_student_learns_and_every_epoch_is_kept(trained: tuple[Path, str]):
    out, _ = trained
    curves = read(out / "loss.json")
    first, last = curves["epochs"]
    assert last["loss"] < first["loss"]
    assert [row["step"] for row in curves["steps"]] == list(range(1, last["step"] + 1))
    ends = [out / f"checkpoint-{epoch['step']}" for epoch in curves["epochs"]]
    assert {path.name for path in out.glob("checkpoint-*")} == {path.name for path in ends}
    for folder in (out, *ends):
        assert not names(folder) & STATES
        assert load_model(folder).device.type == "cpu"
        assert load_renderer(folder).codec.digest == load_renderer(student_path()).codec.digest
    assert (out / "loss.svg").read_bytes().startswith(b"<?xml")
    final, end = weights(out), weights(ends[-1])
    assert all(torch.equal(final[name], end[name]) for name in final)


def test_the_card_says_where_the_data_is_from(run: Path, trained: tuple[Path, str]):
    out, _ = trained
    card = ModelCard((out / "README.md").read_text("utf-8"))
    assert card.data.to_dict()["library_name"] == "transformers"
    digest = read(run / "config.json")["data_digest"]
    assert f"Run `run` (digest of the options: {digest[:16]}…), strategy `tessy`" in card.text
    shares = re.findall(r"\| (\w+) \| [\d,]+ \| ([\d.]+) % \| ([\d.]+) \|", card.text)
    assert [(author, weight) for author, _, weight in shares] == [
        ("student", "1"),
        ("teacher", "0.5"),
    ]
    assert sum(float(share) for _, share, _ in shares) == pytest.approx(100, abs=0.11)
    record = read(out / "sft.json")
    assert record["data"]["run_digest"] == digest
    assert str(run) not in card.text


def test_the_same_command_does_not_train_again(run: Path, trained: tuple[Path, str]):
    out, _ = trained
    before = weights(out)
    assert "is finished; --fresh starts over" in sft(run, out)
    output = sft(run, out, learning_rate=1e-4, seed=3, code=2)
    assert "  learning_rate: 0.001, now 0.0001\n  seed: 0, now 3\n" in output
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(out).items())


def test_a_resumed_training_gives_the_same_bits(
    run: Path, trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, _ = trained
    out = tmp_path / "out"
    save = trainer._EpochCallback.on_save

    def stop(self: Any, *arguments: Any, **values: Any) -> None:
        save(self, *arguments, **values)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer._EpochCallback, "on_save", stop)
        output = sft(run, out, code=130)
    assert "tessy: interrupted; the same command resumes it from the last epoch" in output
    (first,) = out.glob("checkpoint-*")
    assert names(first) >= STATES
    damaged = out / "checkpoint-99"  # as left by a process that was killed
    damaged.mkdir()
    (damaged / "model.safetensors").write_bytes(b"half")
    assert "batch: 4, now 8" in sft(run, out, batch=8, code=2)
    assert f"resumed    from {first.name}\n" in sft(run, out)
    assert not damaged.exists()
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(out)[name])
    losses = (read(folder / "loss.json")["steps"] for folder in (whole, out))
    assert next(losses) == next(losses)


def test_an_interruption_in_the_first_epoch_starts_over(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "make_trainer", interrupt)
    output = sft(run, tmp_path / "out", code=130)
    assert "interrupted before the end of the first epoch; the same command starts over" in output
    monkeypatch.setattr(command, "read_source", interrupt)
    assert sft(run, tmp_path / "new", code=130) == "tessy: interrupted\n"


def test_a_base_that_was_trained_again_is_refused(run: Path, tmp_path: Path):
    base, out = tmp_path / "base", tmp_path / "out"
    shutil.copytree(student_path(), base)
    options: dict[str, Any] = {"model": str(base), "lora_rank": 4, "epochs": 1, "batch": 16}
    sft(run, out, **options)
    assert "is finished" in sft(run, out, **options)
    changed = {name: tensor + 1e-3 for name, tensor in weights(base).items()}
    save_file(changed, base / "model.safetensors", metadata={"format": "pt"})
    assert "  weights: " in sft(run, out, **options, code=2)


def test_an_adapter_is_trained_and_loaded_with_its_base(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = token_file(run, "--loss", "teacher").path
    monkeypatch.chdir(student_path().parent)
    source = read_source(SftConfig(data=data, out=tmp_path))
    assert (source.model, source.loss) == (str(student_path().resolve()), "teacher")
    out = tmp_path / "adapter"
    options: dict[str, Any] = {
        "lora_rank": 4,
        "loss": "teacher",
        "epochs": 1,
        "batch": 16,
        "packing": False,
    }
    output = sft(data, out, model="student", learning_rate=None, **options)
    assert "of the 13 sequences; learning rate up to 0.0002 (default of an adapter)" in output
    assert read(out / "sft.json")["data_config"]["learning_rate"] == 2e-4
    assert "LoRA rank 4, 13,568 of 258,656 parameters" in output
    refused = sft(data, tmp_path / "more", model=str(out), **options, code=2)
    assert (
        f"is a LoRA adapter, which cannot be trained further; pass its base '{student_path()}"
        in (refused)
    )
    monkeypatch.chdir(tmp_path)
    (checkpoint,) = out.glob("checkpoint-*")
    assert "README.md" not in names(checkpoint)
    for folder in (out, checkpoint):
        config = read(folder / "adapter_config.json")
        assert (config["r"], config["lora_alpha"]) == (4, 8)
        tensors = weights(folder)
        assert sum(tensor.numel() for tensor in tensors.values()) == 13_568
        assert any(tensor.abs().sum() > 0 for n, tensor in tensors.items() if "lora_B" in n)
    ids = torch.tensor([[5, 6, 7, 8]])
    logits = [load_model(f)(input_ids=ids).logits for f in (student_path(), out, checkpoint)]
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)
    assert torch.equal(logits[1], logits[2])
    assert load_renderer(out).codec.digest == load_renderer(student_path()).codec.digest
    card = (out / "README.md").read_text()
    assert "A LoRA adapter of rank 4 for `student`" in card
    assert re.search(r"\| student \| [\d,]+ \| [\d.]+ % \| 0 \|", card)


def test_a_missing_base_of_an_adapter_is_named(tmp_path: Path):
    config = {"base_model_name_or_path": "./gone"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match=r"base model of the LoRA adapter .*no folder './gone'"):
        load_model(tmp_path)


def test_unusable_input_is_refused_before_training(
    run: Path, trained: tuple[Path, str], tmp_path: Path
):
    out = tmp_path / "out"
    data = token_file(run, "--loss", "student")
    moved = tmp_path / "/".join("elsewhere") / "tokens.parquet"  # far below its first folder
    moved.parent.mkdir(parents=True)
    shutil.copy(data.path, moved)
    refused: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "none", {}, "there is no "),
        (tmp_path, {}, "is not a run: it has no config.json"),
        (run / "config.json", {}, "is not a Parquet file of token ids; pass a run directory, or"),
        (trained[0], {}, "is not a run: it is a model that `tessy sft` wrote; `tessy evaluate"),
        (run, {"model": str(run)}, "cannot load the tokenizer"),
        (moved, {"loss": "student"}, "names a student that is not there (../"),
        (data.path, {"loss": "all", "model": str(student_path())}, "was exported with --loss stu"),
        (run, {"loss": "nobody"}, "--loss: expected all, student, teacher, or"),
        (run, {"model": str(teacher_path())}, "has another vocabulary or chat template than"),
        (run, {"model": str(tmp_path / "none")}, "there is no folder"),
        (run, {"model": str(predictor_path("student"))}, "is a Qwen3ForTokenClassification, not"),
        (run, {"batch": 5, "device_batch": 2}, "cannot be shared evenly"),
        (run, {"max_tokens": 4}, f"{run} has no rows to learn from: all 13 rows have more than 4"),
    ]
    for source, options, message in refused:
        output = sft(source, out, code=2, **options)
        assert message in output
        assert not re.search(r"\.;|magic bytes", output)
    assert not out.exists() or names(out) <= {"run.lock"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…")
    assert "was not written by `tessy sft`" in sft(run, tmp_path / "mine", code=2)


def test_a_diverged_training_stops(run: Path, tmp_path: Path):
    output = sft(run, tmp_path / "out", learning_rate=1e30, epochs=3, batch=16, code=2)
    assert re.search(r"the loss is (nan|inf) at step \d+: training has diverged", output)


def test_older_checkpoints_have_the_type_of_the_base(trained: tuple[Path, str], tmp_path: Path):
    out, _ = trained
    folder = tmp_path / "checkpoint"
    load_model(out).save_pretrained(folder)
    (folder / "optimizer.pt").write_bytes(b"")
    (folder / "global_step4").mkdir()
    keep_model(folder, torch.bfloat16)
    assert not {"optimizer.pt", "global_step4"} & names(folder)
    assert read(folder / "config.json")["dtype"] == "bfloat16"
    full = weights(out)
    assert all(torch.equal(t, full[name].bfloat16()) for name, t in weights(folder).items())
    load_model(folder)


def test_a_model_that_mixes_rows_needs_no_packing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trainer, "separates_rows", lambda model: False)
    with pytest.raises(ConfigError, match="depend on the one before it; give --no-packing"):
        trainer._check_packing(load_model(student_path()), "student")
