"""Model families: markers and stop ids of a model, detected from its chat template.

A probe conversation is rendered with and without an answer. The text between its known words shows
how the model opens and closes its thinking and ends its turn. Families differ only in the names of
the markers, except harmony (gpt-oss), which has thinking and answer in two messages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tessy.core.errors import InputError, ModelError
from tessy.tokenization.chat_template import ChatTemplate, Turn
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.renderer import THINKING_FIELDS, Family, Renderer, Shape

if TYPE_CHECKING:  # importing transformers is slow
    from transformers import PreTrainedTokenizerFast

_HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
_HARMONY_STOPS = ("<|end|>", "<|return|>", "<|call|>", "<|channel|>")
_CLOSING = re.compile(r"([<\[◁])/([\w:]*(?:think|thought|reason)[\w:]*)([>\]▷])", re.IGNORECASE)
# Words of the probe conversation, which no template contains or changes.
_QUESTION, _THOUGHTS, _ANSWER = "tessyquestion", "tessythoughts", "tessyanswer"


def load_renderer(
    model: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    reasoning_effort: str = "high",
) -> Renderer:
    """Load the tokenizer of a local folder or hub id and detect its chat format.

    Args:
        model: A local folder or hub id.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether to run Python code that comes with the tokenizer.
        reasoning_effort: Passed to the chat template (gpt-oss: low, medium, high).

    Raises:
        ModelError: The tokenizer cannot be loaded, has no chat template, or does not support
            thinking.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = Path(model).expanduser()
    # A hub id has one slash at most.
    looks_local = str(model).startswith((".", "/", "~")) or str(model).count("/") > 1
    if not path.is_dir() and (isinstance(model, Path) or looks_local):
        raise ModelError(f"there is no folder {str(model)!r}; pass the folder or hub id of a model")
    name = str(path) if path.is_dir() else str(model)

    def load(cls: type[AutoTokenizer] | type[PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
        try:
            tokenizer = cls.from_pretrained(
                name, revision=revision or "main", trust_remote_code=trust_remote_code
            )
        except Exception as error:  # errors of hub, files and parsers have no common base class
            raise ModelError(_load_fault(name, error)) from error
        return cast("PreTrainedTokenizerFast", tokenizer)  # HfCodec rejects other classes

    tokenizer = load(AutoTokenizer)
    try:
        return make_renderer(tokenizer, reasoning_effort=reasoning_effort)
    except ModelError:
        # Some checkpoints name the wrong class (LlamaTokenizerFast for a byte-level vocabulary:
        # the Llama distillations of DeepSeek-R1), which loses every space. Their
        # tokenizer.json is correct.
        if type(tokenizer) is PreTrainedTokenizerFast:
            raise
        return make_renderer(load(PreTrainedTokenizerFast), reasoning_effort=reasoning_effort)


def _load_fault(name: str, error: Exception) -> str:
    """Return why the tokenizer of a folder or hub id cannot be loaded, and what to do."""
    detail = " ".join(str(error).split()).rstrip(".")
    if not Path(name).is_dir():
        advice = (
            "check the name, the network and, for a gated model, HF_TOKEN, or pass a local folder"
        )
    elif not (Path(name) / "tokenizer.json").exists():
        detail = "no tokenizer.json in this folder"  # instead of the fallback's error
        advice = (
            "copy the tokenizer's files from the base model into it, or set the role's tokenizer "
            "to the base model"
        )
    else:
        advice = "copy the tokenizer's files into it again"
    return f"cannot load the tokenizer of {name!r}: {detail}; {advice}"


def make_renderer(
    tokenizer: PreTrainedTokenizerFast, *, reasoning_effort: str = "high"
) -> Renderer:
    """Detect the chat format of a loaded tokenizer.

    Raises:
        ModelError: The tokenizer has no chat template, does not support thinking, or is not
            lossless.
    """
    codec = HfCodec(tokenizer)
    # Templates ignore unknown names; the switch for thinking differs by family.
    options = {"enable_thinking": True, "thinking": True, "reasoning_effort": reasoning_effort}
    template = ChatTemplate(tokenizer, codec, options)
    family, closing = _detect_family(template, codec)
    try:
        shape, ends = _probe(template, closing, codec.name)
    except InputError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"the chat template cannot be used: {error}") from error
    thinking_stops = _HARMONY_STOPS if family == "harmony" else (closing,)
    answer_stops = {codec.control[end] for end in ends}
    answer_stops |= {
        end for end in (tokenizer.eos_token_id, tokenizer.pad_token_id) if end in codec.control_ids
    }
    if not answer_stops:
        raise ModelError(
            f"the tokenizer of {codec.name!r} has no end-of-sequence token and its chat template "
            "no end of a turn, so answers would never end; set eos_token in tokenizer_config.json"
        )
    return Renderer(
        family=family,
        codec=codec,
        thinking_stop_ids=frozenset(
            codec.control[stop] for stop in thinking_stops if stop in codec.control
        ),
        answer_stop_ids=frozenset(answer_stops),
        shape=shape,
        template=template,
    )


def _detect_family(template: ChatTemplate, codec: HfCodec) -> tuple[Family, str]:
    """Return the family and the control token that ends its thinking."""
    source = template.source
    if all(mark in codec.control and mark in source for mark in _HARMONY):
        return "harmony", "<|end|>"
    closings = [
        closing
        for closing in codec.control
        if (match := _CLOSING.fullmatch(closing))
        and ((opening := match[1] + match[2] + match[3]) in codec.control or opening in source)
    ]
    if not closings:
        raise ModelError(
            f"the tokenizer of {codec.name!r} has no token that ends the thinking (such as "
            "</think>); use a reasoning model, or add <think> and </think> to the tokenizer "
            "(add_tokens) and train the model to use them"
        )
    closing = "</think>" if "</think>" in closings else closings[0]
    if "<｜Assistant｜>" in source:
        return "deepseek_r1", closing
    if "<|im_start|>" in source and "reasoning_content" in source and closing in source:
        return "qwen3", closing
    return "generic", closing


def _probe(template: ChatTemplate, closing: str, name: str) -> tuple[Shape, set[str]]:
    """Render probe conversations; return the shape and the control tokens that end a turn."""
    question: Turn = {"role": "user", "content": _QUESTION}
    thinking = dict.fromkeys(THINKING_FIELDS, _THOUGHTS)
    answer: Turn = {"role": "assistant", "content": _ANSWER} | thinking
    prompt = _after_question(template.render([question]), name)
    complete = _after_question(template.render([question, answer], prompt=False), name)
    history = template.render([question, answer, question])
    # The last turn may end differently from earlier ones (harmony).
    ends = {
        mark[0]
        for text in (complete, history)
        if (mark := template.markup.match(text.partition(_ANSWER)[2].lstrip()))
    }
    shape = _read_shape(prompt, complete, closing) or _default_shape(prompt, closing)
    if shape is None:
        raise ModelError(
            f"the chat template of {name!r} does not open the thinking: its prompt ends in "
            f"{prompt[-80:]!r}; use the thinking variant of the model, or another template"
        )
    return shape, ends


def _after_question(text: str, name: str) -> str:
    before, found, after = text.rpartition(_QUESTION)
    if not found:
        raise ModelError(f"the chat template of {name!r} drops the user's message: {before!r}")
    return after


def _read_shape(prompt: str, complete: str, closing: str) -> Shape | None:
    """Return the shape of a rendered turn; None if the template omits the thinking.

    Args:
        prompt: The generation prompt.
        complete: The rendered turn.
        closing: The control token that ends the thinking.
    """
    before, _, rest = complete.partition(_THOUGHTS)
    between, found, _ = rest.partition(_ANSWER)
    if not found or between.count(closing) != 1 or not before.startswith(prompt):
        return None
    suffix = before[len(prompt) :]
    if not _CLOSING.fullmatch(closing):  # harmony: the prompt does not open a channel
        return Shape(suffix, suffix, between, fields=True)
    start = before.rfind(_opening_of(closing))
    return Shape(suffix, before[start:], between, fields=True) if start >= 0 else None


def _default_shape(prompt: str, closing: str) -> Shape | None:
    """Return the usual shape, of DeepSeek-R1 and Qwen3, for templates that omit the thinking."""
    if not _CLOSING.fullmatch(closing) or closing in prompt:
        return None
    opening = _opening_of(closing)
    suffix = ""
    if prompt.rstrip().endswith(opening):
        opening = prompt[prompt.rindex(opening) :]
    else:
        opening = suffix = opening + "\n"
    space = opening.endswith("\n")
    return Shape(suffix, opening, f"\n{closing}\n\n" if space else closing, fields=False)


def _opening_of(closing: str) -> str:
    """Return the opening marker of ``closing``: ``<think>`` for ``</think>``."""
    return closing.replace("/", "", 1)
