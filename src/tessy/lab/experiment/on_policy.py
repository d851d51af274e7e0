"""On-policy distillation by TRL's GOLD: the student is trained on responses that it samples itself.

GOLD compares the models' next-token distributions at token boundaries that both tokenizers share.
It passes the student's chat format to the teacher, but the bundled teacher was not trained on that
format. Here each model receives the problem in its own format, and only the thinking has a loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, takewhile
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]  # ships no types
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback
from trl.import_utils import TRLExperimentalWarning

from tessy.boundary.training.fit import OneDeviceMixin
from tessy.data.export.tokens import IGNORED
from tessy.data.export.trainer_folder import WARMUP_SHARE
from tessy.inference.local.model import hide_loading_bar, load_causal, quiet_loading
from tessy.lab.examples import Encoder
from tessy.lab.experiment.outcomes import SkippedError
from tessy.training.curves import epoch_losses, steps_of
from tessy.training.student import load_weights, read_student

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TRLExperimentalWarning)  # one minor version of TRL is pinned
    from trl.experimental.gold import GOLDConfig, GOLDTrainer


@dataclass(frozen=True, slots=True)
class OnPolicyOptions:
    """Options of an on-policy training."""

    epochs: int
    batch: int  # responses per optimizer step
    learning_rate: float  # the highest
    temperature: float  # of the student's responses
    most_tokens: int  # of a response
    seed: int


class _GoldArguments(OneDeviceMixin, GOLDConfig):
    pass


class ThinkingTrainer(GOLDTrainer):
    """GOLD with each model's own chat format and a loss on the thinking only.

    The parts that differ between the formats have no loss: a line break before the marker that
    closes the thinking, the marker, and the answer.
    """

    def __init__(self, teacher_prompts: Mapping[str, str], **options: Any) -> None:  # noqa: ANN401
        """``teacher_prompts``: the teacher's prompt by the student's."""
        super().__init__(**options)
        self._teacher_prompts = teacher_prompts

    def generate_on_policy_outputs(
        self,
        model: Any,  # noqa: ANN401
        inputs: Any,  # noqa: ANN401
        generation_config: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor, Tensor, list[str], list[str]]:
        """Sample responses; return ids, mask, labels, and the teacher's prompts and responses."""
        ids, mask, labels, prompts, _ = super().generate_on_policy_outputs(  # type: ignore[no-untyped-call]
            model, inputs, generation_config
        )
        thoughts = [keep_thinking(*row, self._tokenizer) for row in zip(ids, labels, strict=True)]
        if not any(thoughts):  # GOLD fails without any label
            raise SkippedError("all responses of a step had an empty thinking")
        return ids, mask, labels, [self._teacher_prompts[prompt] for prompt in prompts], thoughts


def keep_thinking(ids: Tensor, labels: Tensor, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the thinking of a response, and remove the labels after it; both are ``[T]``.

    It ends before the first marker of the chat format, and before a line break in front of that.
    """
    written = (labels != IGNORED).nonzero().flatten().tolist()
    markers = set(tokenizer.get_added_vocab().values())
    kept = list(takewhile(lambda at: int(ids[at]) not in markers, written))
    if len(kept) < len(written):
        while kept and str(tokenizer.decode(ids[kept[-1:]])).endswith("\n"):
            kept.pop()
    labels[written[len(kept) :]] = IGNORED
    return str(tokenizer.decode(ids[kept]))


def train_on_policy(
    student: Path, teacher: Path, problems: Sequence[str], out: Path, options: OnPolicyOptions
) -> dict[str, Any]:
    """Train a student on-policy, write it to ``out``, and return its steps and losses.

    An epoch has a response to every problem. To fill the last batch, the first problems have
    another one.
    """
    hide_loading_bar()
    datasets.disable_progress_bars()
    with quiet_loading():
        spec = read_student(str(student), None)
        model = load_weights(spec, trained=True)
        teacher_model = load_causal(str(teacher), dtype=torch.float32)
    prompts = _opened(problems, Encoder(spec.tokenizer, "student"))
    others = _opened(problems, Encoder(AutoTokenizer.from_pretrained(str(teacher)), "teacher"))
    count = -(-len(prompts) // options.batch) * options.batch
    # GOLD replaces the completions by sampled ones.
    rows = [{"prompt": prompt, "completion": "-"} for prompt in islice(cycle(prompts), count)]
    trainer = ThinkingTrainer(
        dict(zip(prompts, others, strict=True)),
        model=model,
        teacher_model=teacher_model,
        args=_arguments(options, count // options.batch, teacher, out),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=spec.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(out))
    steps = steps_of(trainer.state.log_history)
    return {
        "steps": len(steps),
        "losses": [epoch["loss"] for epoch in epoch_losses(steps, options.epochs)],
    }


def _opened(problems: Sequence[str], encoder: Encoder) -> list[str]:
    """Return the prompts up to the first word of the thinking."""
    return [encoder.prompt(problem) + encoder.markup.open_thinking for problem in problems]


def _arguments(options: OnPolicyOptions, steps: int, teacher: Path, out: Path) -> GOLDConfig:
    """Return GOLD's options, those of `tessy sft` where both have them."""
    gpu = torch.cuda.is_available()
    return _GoldArguments(
        output_dir=str(out),
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=1,
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(WARMUP_SHARE * steps * options.epochs),
        optim="adamw_torch",
        seed=options.seed,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not gpu,
        gradient_checkpointing=False,
        dataloader_pin_memory=gpu,
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        lmbda=1.0,  # every response is the student's
        beta=1.0,  # reverse KL divergence, as in TRL's DistillationTrainer
        temperature=options.temperature,
        top_p=1.0,
        top_k=0,
        max_completion_length=options.most_tokens,
        use_uld_loss=True,  # two tokenizers
        teacher_tokenizer_name_or_path=str(teacher),
        # Compare tokens that are in both vocabularies by name, the others by rank of probability.
        uld_use_hybrid_loss=True,
        # The other strategy pairs a token with the distribution of its successor.
        uld_token_merge_strategy="bayesian",
        uld_skip_student_eos=False,  # its labels end with the thinking
    )
