"""Model families: markers and stop ids of a model, detected from its chat template.

Families differ only in the names of the markers and the white space around them, which
:mod:`tessy.tokenization.probe` reads off the template, except harmony (gpt-oss), which has thinking
and answer in two messages.
"""

from __future__ import annotations

import datetime
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tessy.core.errors import InputError, ModelError, cause_of
from tessy.tokenization.chat_template import ChatTemplate
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.probe import probe_turn
from tessy.tokenization.renderer import Family, Renderer
from tessy.tokenization.tokenizer_json import collection_paused

if TYPE_CHECKING:  # importing transformers is slow
    from transformers import PreTrainedTokenizerFast

_HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
_HARMONY_STOPS = ("<|end|>", "<|return|>", "<|call|>", "<|channel|>")
_CLOSING = re.compile(r"([<\[◁])/([\w:]*(?:think|thought|reason)[\w:]*)([>\]▷])", re.IGNORECASE)
_TOKENIZER_FILE = "tokenizer_config.json"
_GEMMA4 = ("<|channel>", "<channel|>")


def load_renderer(
    model: str | Path,
    *,
    trust_remote_code: bool = False,
    reasoning_effort: str = "high",
    force_thinking: bool = False,
    date: datetime.date | None = None,
) -> Renderer:
    """Load the tokenizer of a local folder or hub id and detect its chat format.

    Args:
        model: A local folder or hub id.
        trust_remote_code: Run Python code that comes with the tokenizer.
        reasoning_effort: Passed to the chat template (gpt-oss: low, medium, high).
        force_thinking: Accept a chat template that does not mention thinking.
        date: The date for chat templates that print it; None: today's.

    Raises:
        ModelError: The tokenizer cannot be loaded, has no chat template, or does not support
            thinking.
    """
    path = Path(model).expanduser()
    if not path.is_dir() and (isinstance(model, Path) or is_path(model)):
        raise ModelError(f"there is no folder {str(model)!r}; pass the folder or hub id of a model")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    name = str(path) if path.is_dir() else str(model)

    def load(cls: type[AutoTokenizer] | type[PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
        try:
            with collection_paused():
                tokenizer = cls.from_pretrained(name, trust_remote_code=trust_remote_code)
        except Exception as error:  # errors of hub, files and parsers have no common base class
            raise ModelError(_load_fault(name, error)) from error
        return cast("PreTrainedTokenizerFast", tokenizer)  # HfCodec rejects other classes

    tokenizer = load(AutoTokenizer)
    try:
        codec = HfCodec(tokenizer)
    except ModelError:
        # Some checkpoints name the wrong class (LlamaTokenizerFast for a byte-level vocabulary:
        # the Llama distillations of DeepSeek-R1), which loses every space. Their
        # tokenizer.json is correct.
        if type(tokenizer) is PreTrainedTokenizerFast:
            raise
        tokenizer = load(PreTrainedTokenizerFast)
        codec = HfCodec(tokenizer)
    return make_renderer(
        tokenizer,
        codec,
        reasoning_effort=reasoning_effort,
        force_thinking=force_thinking,
        date=date,
    )


def can_find_tokenizer(name: str, *, seconds: float = 2.5) -> bool | None:
    """Return whether ``name`` is a local folder, or a hub id in the cache or on the hub.

    The hub has ``seconds`` to answer, where transformers repeats requests for minutes; None if it
    does not, or answers with a passing error.
    """
    if Path(name).expanduser().is_dir():
        return True
    if is_path(name):
        return False
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        if isinstance(try_to_load_from_cache(name, _TOKENIZER_FILE), str):
            return True
    except HFValidationError:
        return False
    found: list[bool | None] = []
    # A look-up of the hub's address has no limit of its own.
    thread = threading.Thread(target=lambda: found.append(_is_on_hub(name, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def is_path(name: str) -> bool:
    """Return whether ``name`` means a local folder, not a hub id, even if there is none.

    A hub id has one slash at most; what begins with the name of an existing folder is a path.
    """
    first, slash, rest = name.partition("/")
    return name.startswith((".", "/", "~")) or "/" in rest or bool(slash and Path(first).is_dir())


def why_not_found(found: bool | None) -> str:
    """Return how a search for a hub id ended that :func:`can_find_tokenizer` did not find."""
    return "the hub did not answer" if found is None else "it was not found on the hub"


def _is_on_hub(name: str, seconds: float) -> bool | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(name, _TOKENIZER_FILE), timeout=seconds)
    except GatedRepoError:
        return True  # loading it says what to do
    except (RepositoryNotFoundError, EntryNotFoundError):
        return False
    except Exception:  # errors of hub and connection have no common base class
        return None
    return True


def _load_fault(name: str, error: Exception) -> str:
    """Return why the tokenizer of a folder or hub id cannot be loaded, and what to do."""
    detail = cause_of(error)
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
    tokenizer: PreTrainedTokenizerFast,
    codec: HfCodec | None = None,
    *,
    reasoning_effort: str = "high",
    force_thinking: bool = False,
    date: datetime.date | None = None,
) -> Renderer:
    """Detect the chat format of a loaded tokenizer; the options are those of :func:`load_renderer`.

    Raises:
        ModelError: The tokenizer has no chat template, does not support thinking, or is not
            lossless.
    """
    codec = codec or HfCodec(tokenizer)
    # Templates ignore unknown names; the switch for thinking differs by family.
    options = {"enable_thinking": True, "thinking": True, "reasoning_effort": reasoning_effort}
    template = ChatTemplate(tokenizer, codec, options, date)
    family, opening, closing = _detect_family(template, codec, force_thinking=force_thinking)
    try:
        shape, ends = probe_turn(template, opening, closing, codec.name)
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


def _detect_family(
    template: ChatTemplate, codec: HfCodec, *, force_thinking: bool
) -> tuple[Family, str | None, str]:
    """Return the family, its opening marker (None for harmony), and the token that closes it."""
    source = template.source
    if all(mark in codec.control and mark in source for mark in _HARMONY):
        return "harmony", None, "<|end|>"
    if all(mark in codec.control and mark in source for mark in _GEMMA4):
        return "gemma4", "<|channel>thought", "<channel|>"
    # The closing marker of each pair by its opening one.
    pairs = {
        opening: closing
        for closing in codec.control
        if (match := _CLOSING.fullmatch(closing))
        and ((opening := "".join(match.groups())) in codec.control or opening in source)
    }
    if not pairs:
        raise ModelError(
            f"the tokenizer of {codec.name!r} has no token that ends the thinking (such as "
            "</think>); use a reasoning model, or add <think> and </think> to the tokenizer "
            "(add_tokens) and train the model to use them"
        )
    mentioned = [mark for mark, closing in pairs.items() if mark in source or closing in source]
    if not (mentioned or force_thinking):
        mark, closing = next(iter(pairs.items()))
        raise ModelError(
            f"the chat template of {codec.name!r} never mentions {mark} or {closing}, so the model "
            "is probably not trained to think; use the thinking variant of the model, or, if you "
            "know that it thinks, set force_thinking of its role (--student.force-thinking)"
        )
    candidates = mentioned or list(pairs)
    opening = "<think>" if "<think>" in candidates else candidates[0]
    closing = pairs[opening]
    if "<｜Assistant｜>" in source:
        return "deepseek_r1", opening, closing
    if "<|im_start|>" in source and "reasoning_content" in source and closing in source:
        return "qwen3", opening, closing
    return "generic", opening, closing
