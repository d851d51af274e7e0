"""The byte-level BPE tokenizers of the bundled models, which differ in every respect.

The student's is like those of Qwen3, the teacher's like those of o200k and harmony. Digits are
single tokens, because the corpus contains no number of two digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tessy.lab.corpus import ANSWERS, SENTENCES, SYSTEM_PROMPTS
from tessy.lab.styles import STYLES
from tessy.lab.tasks import TASKS, make_problem, write_trace

CONTEXT_TOKENS = 4096
_TRACES = 1500
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of one tokenizer."""

    name: str  # of the tokenizer and its chat template
    pattern: str  # of the pre-tokens
    size: int  # including control tokens
    control: tuple[str, ...]  # they have the last ids
    plain: frozenset[str]  # control tokens that decoding never skips
    end: str  # ends the assistant's turn
    corpus_seed: int  # other seeds give other merges


STUDENT_TOKENIZER = Recipe(
    name="student",
    pattern=(
        _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES
    ),
    size=640,
    control=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    plain=frozenset({"<think>", "</think>"}),
    end="<|im_end|>",
    corpus_seed=1,
)

TEACHER_TOKENIZER = Recipe(
    name="teacher",
    pattern=(
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACES
    ),
    size=768,
    control=(
        "<|startoftext|>",
        "<|endoftext|>",
        "<|return|>",
        "<|constrain|>",
        "<|channel|>",
        "<|start|>",
        "<|end|>",
        "<|message|>",
        "<|call|>",
    ),
    plain=frozenset(),
    end="<|return|>",
    corpus_seed=2,
)


# Words of the chat formats, repeated in the corpus so that they become single tokens.
_CHAT_MARKUP = [
    "Valid channels: analysis, commentary, final. Channel must be included for every message.",
    "Reasoning: high medium low",
    "system user assistant developer tool analysis commentary final",
    "user\n",
    "assistant\n",
    "system\n",
    "assistant",
    "user",
    "system",
    "developer",
    "final",
    "# Instructions\n\nReasoning: high\n\nYes.\n\nNo.\n\n",
]


def split_bytes(pattern: str) -> pre_tokenizers.Sequence:
    """Return a pre-tokenizer that splits by ``pattern`` and uses the byte-level alphabet."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def make_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Train the tokenizer of ``recipe``; the result is deterministic."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split_bytes(recipe.pattern)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.size - len(recipe.control),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(recipe.corpus_seed), trainer)
    tokenizer.add_tokens(
        [
            AddedToken(token, special=token not in recipe.plain, normalized=False)
            for token in recipe.control
        ]
    )
    if tokenizer.get_vocab_size() != recipe.size:
        raise ValueError(
            f"the {recipe.name}'s corpus yields {tokenizer.get_vocab_size()} tokens instead of "
            f"{recipe.size}; extend the corpus or reduce the size"
        )
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers
        tokenizer_object=tokenizer,
        eos_token=recipe.end,
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    template = files("tessy.lab") / "templates" / f"{recipe.name}.jinja"
    wrapped.chat_template = template.read_text(encoding="utf-8")
    return wrapped


def _corpus(seed: int) -> list[str]:
    rng = Random(seed)
    texts = [*SENTENCES, *ANSWERS, *SYSTEM_PROMPTS] * 8
    texts += _CHAT_MARKUP * 40
    for _ in range(_TRACES):
        problem = make_problem(rng.choice(TASKS), rng)
        style = rng.choice(STYLES)
        trace = write_trace(problem, (style,), rng)
        texts += [problem.text, trace.thinking, style.answer.format(trace.result)]
    return texts
