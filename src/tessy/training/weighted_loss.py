"""TRL's trainer for sequences of token ids whose tokens have loss weights.

Shapes: B sequences, T tokens. Without weights it is TRL's own loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from tessy.data.export.tokens import IGNORED

_WEIGHTS = "loss_weights"
_TOLERANCE = 0.05  # relative; logits in bfloat16


@dataclass
class WeightedCollator(DataCollatorForLanguageModeling):
    """Collator that keeps the weight of each token: (B, T), or (1, T) if sequences are joined."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return TRL's batch, with ``loss_weights`` that are 0 wherever a label is ignored."""
        output: dict[str, Any] = super().torch_call(examples)
        if _WEIGHTS in examples[0]:
            rows = [torch.tensor(example[_WEIGHTS]) for example in examples]
            weights_bt = torch.cat(rows)[None] if self.padding_free else pad_sequence(rows, True)
            output[_WEIGHTS] = weights_bt.masked_fill(output["labels"] == IGNORED, 0.0)
        return output


class TokenTrainer(SFTTrainer):
    """SFTTrainer for prepared sequences: mean loss over an optimizer step, weighted by token."""

    def create_model_card(self, *_: object, **__: object) -> None:
        """No-op: the command writes a card."""

    def _set_signature_columns_if_needed(self) -> None:
        columns: Any = ["input_ids", "labels", "seq_lengths", _WEIGHTS]
        self._signature_columns = columns

    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, Tensor]], device: torch.device
    ) -> Tensor | int | None:
        """Return the sum of the weights of a step, over all processes."""
        if not batch_samples or _WEIGHTS not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)
        total = torch.stack([batch[_WEIGHTS][:, 1:].sum() for batch in batch_samples]).sum()
        gathered: Tensor = self.accelerator.gather(total.to(device))
        return gathered.sum()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401  # the loss, or a pair with the outputs
        """Return the part of a micro batch in the mean loss of its step."""
        if _WEIGHTS not in inputs:
            loss: Any = super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs, num_items_in_batch
            )
            return loss
        weights_bt = inputs.pop(_WEIGHTS)[:, 1:]
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        total = weights_bt.sum() if num_items_in_batch is None else num_items_in_batch
        loss = -(outputs.log_probs * weights_bt).sum() / total
        loss = loss * self.accelerator.num_processes  # which DDP divides by
        if self.aux_loss_enabled:
            steps = self.current_gradient_accumulation_steps
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / steps
        return (loss, outputs) if return_outputs else loss


@torch.no_grad()
def separates_rows(model: PreTrainedModel) -> bool:
    """Return whether ``model`` reads joined rows as it reads each row alone."""
    rows = [[1 + (7 * i) % 50 for i in range(length)] for length in (7, 9)]
    collator = WeightedCollator(0, padding_free=True)

    def logits(*ids: list[int]) -> Tensor:
        inputs = collator([{"input_ids": row, "labels": row} for row in ids])
        del inputs["labels"]
        output: Tensor = model(**inputs, use_cache=False).logits[0].float()
        return output

    joined, alone = logits(*rows), torch.cat([logits(row) for row in rows])
    return bool((joined - alone).norm() <= _TOLERANCE * alone.norm())
