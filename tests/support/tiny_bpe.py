"""A small byte-level BPE tokenizer, trained when needed, and words for texts."""

from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from tessy.tokenization.codec import HfCodec

CORPUS = [
    "Okay, let's see. We need to compute 5 - 3 = 2. Then 2 * 2 = 4.\n\nBut wait, hmm, x = y + 1.\n",
    "Alternatively, the answer is verified. Hence the final result: 42.\nSo let me check it again.",
]
WORDS = [
    *("Okay,", "wait", "5", "-", "3", "=", "2.", "", "\n\n", "Hence", "the", "final", "result:"),
    *("x+y", "好的我们再想一想", "hmm\n", "so", "é👩\u200d👩\u200d👧", "</s>", "\t//", "_"),
]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    make: Any = PreTrainedTokenizerFast  # untyped
    loaded: PreTrainedTokenizerFast = make(tokenizer_object=backend, eos_token="</s>")
    return loaded


@cache
def codec() -> HfCodec:
    return HfCodec(tokenizer())
