"""The model card of a fine-tuned student: what it is, and which data it has learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tessy.core.formatting import counted, markdown_table, percent
from tessy.data.export.provenance import public
from tessy.storage.cards import front_matter, listed, short_digest, write_readme


def write_model_card(
    folder: Path,
    document: Mapping[str, Any],
    *,
    epochs: Sequence[Mapping[str, float]],
    seconds: float,
    device: str,
    processes: int,
) -> None:
    """Write README.md from the content of sft.json and the mean loss by epoch."""
    options, data = document["data_config"], document["data"]
    name = public(str(options["model"]))
    rank = options["lora_rank"]
    kind = f"A LoRA adapter of rank {rank} for" if rank else "A fine-tuned"
    fields: dict[str, str | Sequence[str]] = {
        "library_name": "peft" if rank else "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": json.dumps(name)} if name == options["model"] else {}),
        "tags": ["tessy", "sft", "reasoning", *(["lora"] if rank else [])],
    }
    rows = [(f"{e['epoch']:.0f}", f"{e['step']:,.0f}", f"{e['loss']:.4f}") for e in epochs]
    several = f", {processes} processes" if processes > 1 else ""
    text = f"""\
# {folder.name}

{kind} `{name}`, trained with `tessy sft` {document["tessy"]} on reasoning samples
(TESSY, [arXiv 2604.14164](https://arxiv.org/abs/2604.14164)).

## Data

{_data(data)}
## Training

{markdown_table(("epoch", "step", "mean loss (nats per token)"), rows)}
![Loss by step](loss.svg)

Last session: {seconds:,.0f} s on {device}{several}.
Options: {_options(options)}.
Versions: {listed(document["software"])}. Checkpoints of each epoch: `checkpoint-<step>`.
"""
    write_readme(folder, front_matter(fields) + text)


def _data(data: Mapping[str, Any]) -> str:
    shares, weights = data["tokens_by_author"], data["weights"]
    strategies = data["strategies"]
    how = f", strategy {', '.join(f'`{s}`' for s in strategies)}" if strategies else ""
    digest = (
        f" (digest of the options: {short_digest(data['run_digest'])})"
        if (data["run_digest"])
        else ""
    )
    left_out = f"; {counted(data['left_out'], 'longer row')} left out" if data["left_out"] else ""
    text = (
        f"Run `{data['run']}`{digest}{how}: {counted(data['rows'], 'row')}{left_out}, "
        f"{data['tokens']:,} tokens, of them {data['learned']:,} in the loss, at most "
        f"{data['longest']:,} in a row.\nSHA-256 of the token ids: {short_digest(data['digest'])}\n"
    )
    if not shares:
        return text
    total = sum(shares.values())
    rows = [
        (author, f"{count:,}", percent(count / total), f"{weights[author]:g}")
        for author, count in shares.items()
    ]
    which = "tokens of responses" + (", longer rows included" if data["left_out"] else "")
    columns = ("written by", which, "share", "loss weight")
    return f"{text}\n{markdown_table(columns, rows)}"


def _options(options: Mapping[str, Any]) -> str:
    hidden = ("model", "data", "weights")
    shown = {k: v for k, v in options.items() if k not in hidden and v is not None}
    return listed(shown)
