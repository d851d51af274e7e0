"""``xtuner``: a folder for XTuner V1, the trainer of the paper."""

from __future__ import annotations

from tessy.data.export.format import write_json_lines
from tessy.data.export.formats.dialogs import convert
from tessy.data.export.trainer_folder import WARMUP_SHARE, Files, TrainingSettings, trainer_format

_CONFIG = """\
# The chat template is XTuner's, by name. Packed sequences of pack_max_length tokens may cut rows.
from pathlib import Path

from xtuner.v1.config import AdamWConfig, LRConfig
from xtuner.v1.datasets.config import DataloaderConfig, DatasetConfig
from xtuner.v1.datasets.sft_tokenize_fn import OpenaiTokenizeFunctionConfig
from xtuner.v1.loss import CELossConfig
from xtuner.v1.model import get_model_config_from_hf
from xtuner.v1.train import TrainerConfig

model = {model!r}
data = {data!r}

trainer = TrainerConfig(
    load_from=model,
    tokenizer_path=model,
    model_cfg=get_model_config_from_hf(Path(model)),
    optim_cfg=AdamWConfig(lr={learning_rate!r}, weight_decay=0.0),
    lr_cfg=LRConfig(lr_type="cosine", warmup_ratio={warmup!r}),
    loss_cfg=CELossConfig(mode="chunk", chunk_size=1024),
    dataloader_cfg=DataloaderConfig(
        dataset_config_list=[
            {{
                "dataset": DatasetConfig(name="run", anno_path=data),
                "tokenize_fn": OpenaiTokenizeFunctionConfig(
                    chat_template="qwen3", max_length={context_tokens}
                ),
            }}
        ],
        pack_max_length={context_tokens},
    ),
    global_batch_size={batch},
    total_epoch={epochs},
    work_dir={output!r},
)
"""


def _configure(settings: TrainingSettings) -> Files:
    return {"train.py": _CONFIG.format(warmup=WARMUP_SHARE, **vars(settings))}


FORMAT = trainer_format(
    "xtuner",
    data_name="train.jsonl",
    write=lambda job, rows, path: write_json_lines(convert, rows, path),
    configure=_configure,
    command="torchrun --nproc-per-node 8 -m xtuner.v1.train.cli.sft --config {folder}/train.py",
)
