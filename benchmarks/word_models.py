"""Models with random weights that write only the words of :mod:`benchmarks.words`.

Texts are random words without end, so that the schedule alone determines hand-overs, and each word
is one token for both models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.words import make_model_folder, words
from tessy.tokenization.families import load_renderer

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

_MARK = 0  # hidden dimension that marks "a word comes next", equal at every place
_MARK_WEIGHT = 5.0  # weight against other tokens; the dimension is about 5 after the last norm


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a model of the Qwen3 kind.

    Attributes:
        layers: Number of layers.
        hidden: Width of the hidden state.
        intermediate: Width of the feed-forward network.
        heads: Attention heads.
        kv_heads: Heads of keys and values.
        head_width: Width of each head.
        vocabulary: Minimum number of ids, including those that are never generated.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int = 64
    vocabulary: int = 0


SHAPES = {
    # As deep as Qwen3-0.6B, and as narrow as two cores need it.
    "small": Shape(28, 32, intermediate=96, heads=1, kv_heads=1, head_width=32),
    "0.6B": Shape(28, 1024, 3072, heads=16, kv_heads=8, head_width=128, vocabulary=151_936),
    "8B": Shape(36, 4096, 12_288, heads=32, kv_heads=8, head_width=128, vocabulary=151_936),
}


def make_word_model(folder: Path, shape: Shape, *, context_tokens: int, dtype: str) -> int:
    """Write tokenizer, configuration and weights; return the number of weights.

    Args:
        folder: Created if it is missing.
        shape: Size of the model.
        context_tokens: Maximum context.
        dtype: Torch dtype of the weights.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    make_model_folder(folder)
    codec = load_renderer(folder).codec
    vocab = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    size = len(vocab["model"]["vocab"]) + len(vocab["added_tokens"])
    config = Qwen3Config(
        vocab_size=max(shape.vocabulary, 64 * -(-size // 64)),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width,
        max_position_embeddings=context_tokens,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    make: Any = Qwen3ForCausalLM  # untyped
    model = make(config).to(getattr(torch, dtype))
    with torch.no_grad():
        _write_words_only(model, [codec.encode(" " + word)[0] for word in words()])
    model.save_pretrained(str(folder))
    return sum(parameter.numel() for parameter in model.parameters())


def _write_words_only(model: Qwen3ForCausalLM, inner: list[int]) -> None:
    """Keep one dimension of the hidden state constant, and give it weight against all but words.

    The other dimensions depend on the text, so that any word may come.
    """
    body, head = model.model, model.lm_head.weight
    body.embed_tokens.weight[:, 1:] *= 10
    body.embed_tokens.weight[:, _MARK] = 1.0
    for layer in body.layers:
        layer.self_attn.o_proj.weight[_MARK] = 0.0
        layer.mlp.down_proj.weight[_MARK] = 0.0
    head[:, _MARK] = -_MARK_WEIGHT
    head[inner, _MARK] = 0.0
