"""The model of the in-process engine: loading it, and one forward pass over many sequences.

Whether an architecture can share a right-aligned batch is checked with a few real passes when the
model is loaded.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.utils import logging

from tessy.core.errors import ModelError, cause_of
from tessy.core.extras import check_installed
from tessy.core.formatting import counted
from tessy.inference.local.kv_cache import KvPool, PooledSequence, PoolLayer, arrange, pool_cache
from tessy.tokenization.families import is_path

# Errors of loading files that are missing, damaged or of another kind.
LOADING_ERRORS = (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError)

_CPU_CACHE_BYTES = 4 * 2**30
_GPU_CACHE_SHARE = 0.6  # of the memory free after loading; the rest is for activations
_PROBE_TOKENS = 12
TRIAL_CAPACITY = 8 * _PROBE_TOKENS  # of the model that makes :func:`trial_passes`
_CANNOT_CONTINUE = (
    "the model loads, but does not continue text step by step as transformers' decoders do; serve "
    "it with a model server"
)
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # relative error of logits
_HALF_TOLERANCE = 0.2  # bf16 and fp16; a wrong mask or position is off by about 1


class PooledModel:
    """A model whose sequences lie in one pool; a pass is one right-aligned batch of them."""

    def __init__(self, model: PreTrainedModel, capacity: int) -> None:
        """Cache at most ``capacity`` tokens; raises ModelError for layers other than attention."""
        self.capacity = capacity
        self._model = model
        self._pool = KvPool(capacity)
        cache = pool_cache(model.config, self._pool)
        if cache is None:
            raise ModelError(
                "the model has layers other than attention, whose state cannot go back to an "
                "earlier token; serve it with a model server"
            )
        self._cache = cache

    def new(self) -> PooledSequence:
        """Return an empty sequence."""
        return PooledSequence()

    def rollback(self, sequence: PooledSequence, length: int) -> int:
        """Drop all but the first ``length`` ids."""
        return self._pool.rollback(sequence, length)

    def reserve(self, sequence: PooledSequence, count: int) -> bool:
        """Allocate memory for ``count`` more ids."""
        return self._pool.reserve(sequence, count)

    def read(
        self, members: Sequence[tuple[PooledSequence, Sequence[int]]], **options: object
    ) -> Tensor:
        """Run the model on new ids (at least one each, space reserved); return ``[B, Q, …]``."""
        inputs = arrange(self._pool, members, self._model.device)
        output = self._model(**inputs, past_key_values=self._cache, use_cache=True, **options)
        for sequence, new in members:
            sequence.ids.extend(new)
        logits: Tensor = output.logits
        return logits

    def token_bytes(self) -> int:
        """Return the bytes of a token's keys and values, after the first pass."""
        layers = [layer for layer in self._cache.layers if isinstance(layer, PoolLayer)]
        held = [part for layer in layers for part in (layer.keys, layer.values)]
        return sum(part[:1].numel() * part.element_size() for part in held if part is not None)


class PooledDecoder(PooledModel):
    """Continues the sequences of a pool."""

    @torch.inference_mode()
    def forward(self, members: Sequence[tuple[PooledSequence, Sequence[int]]]) -> Tensor:
        """Read new ids; logits after the last of each: ``[B, V]``."""
        return self.read(members, logits_to_keep=1)[:, -1]


def pick_device(device: str | None) -> torch.device:
    """Return the device named, else a GPU, else the CPU; raises ModelError if it is unusable."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        best = "the GPU" if torch.cuda.is_available() else "the CPU"
        raise ModelError(
            f"device {device!r} cannot be used: {cause_of(error)}; leave it out to use {best}"
        ) from error


def working_dtype(device: torch.device) -> torch.dtype:
    """Return float32 on CPU, bfloat16 elsewhere."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def model_name(model: str | Path) -> str:
    """Return the name to load: the folder if it exists, else a hub id; raises ModelError."""
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path)
    if isinstance(model, Path) or is_path(model):
        raise ModelError(f"there is no folder {str(model)!r}; pass the folder or hub id of a model")
    return model


def why_unloadable(name: str, error: Exception) -> str:
    """Return why ``name`` could not be loaded; a misspelt folder is looked up on the hub."""
    if Path(name).exists():
        return cause_of(error)
    return f"there is no folder {name!r} here, and the hub does not provide it ({cause_of(error)})"


def load_model(
    model: str | Path, *, device: str | None = None, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Load a causal language model for inference: float32 on CPU, bfloat16 elsewhere.

    ``device`` is named as in torch; by default a GPU if there is one. Weights must be safetensors.
    A folder of a LoRA adapter gives its base model with the adapter merged in.
    """
    place = pick_device(device)
    name = model_name(model)
    base = adapter_base(name)
    hide_loading_bar()
    try:
        with quiet_loading():
            loaded = load_causal(
                base or name, dtype=working_dtype(place), trust_remote_code=trust_remote_code
            )
            if base is not None:
                loaded = _merged(loaded, name)
        torch.nn.Module.to(loaded, place)
        torch.nn.Module.eval(loaded)
    except LOADING_ERRORS as error:
        raise ModelError(
            f"cannot load the model {name!r} on {place}: {cause_of(error)}; it must be a "
            "transformers causal language model with safetensors weights (a local folder or a hub "
            "id)"
        ) from error
    return loaded


def load_causal(
    name: str, *, trust_remote_code: bool = False, **options: object
) -> PreTrainedModel:
    """Load a causal language model from safetensors; ``options`` are those of ``from_pretrained``.

    Raises:
        ModelError: It is a model of another kind, or its files lack weights, such as the head,
            which transformers would initialize at random.
        OSError, ValueError, …: The files cannot be read; see :data:`LOADING_ERRORS`.
    """
    config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    for architecture in config.architectures or ():
        if not _may_generate(architecture):
            raise ModelError(
                f"the model {name!r} is a {architecture}, not a causal language model, so it "
                "cannot write text; pass the folder or hub id of a language model"
            )
    model: PreTrainedModel
    loader: Any = AutoModelForCausalLM  # its types lack the second result
    model, loading = loader.from_pretrained(
        name,
        use_safetensors=True,
        output_loading_info=True,
        trust_remote_code=trust_remote_code,
        **options,
    )
    if missing := sorted(loading["missing_keys"]):
        more = ", …" if len(missing) > 1 else ""
        raise ModelError(
            f"the files of the model {name!r} lack {counted(len(missing), 'weight')} of a causal "
            f"language model ({missing[0]}{more}), which would be initialized at random; pass the "
            "folder or hub id of a complete language model"
        )
    return model


def _may_generate(architecture: str) -> bool:
    """Return whether a class of models has a language model's head, or may have no head at all.

    Classes that transformers does not define come with the model.
    """
    kind = getattr(transformers, architecture, GenerationMixin)
    return architecture in MODEL_MAPPING_NAMES.values() or issubclass(kind, GenerationMixin)


def adapter_base(name: str) -> str | None:
    """Return the base model of the LoRA adapter in the folder ``name``; None if it is none.

    Raises:
        ModelError: The adapter names no base model, or a folder that does not exist.
        ConfigError: peft is not installed.
    """
    path = Path(name) / "adapter_config.json"
    if not path.is_file():
        return None
    check_installed(f"the LoRA adapter {name}", {"peft": "train"})
    try:
        base = json.loads(path.read_bytes()).get("base_model_name_or_path")
        return model_name(str(base or ""))
    except (OSError, ValueError, AttributeError, ModelError) as error:
        raise ModelError(
            f"the base model of the LoRA adapter {name!r} cannot be found: {error}; set "
            "base_model_name_or_path in its adapter_config.json to the base's folder or hub id"
        ) from error


def _merged(base: PreTrainedModel, adapter: str) -> PreTrainedModel:
    from peft import PeftModel

    merged: PreTrainedModel = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    return merged


def hide_loading_bar() -> None:
    """Disable transformers' progress bar, which would break the live view."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' reports, of missing weights for example; errors are still raised."""
    before = logging.get_verbosity()
    logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def vocabulary_size(model: PreTrainedModel) -> int:
    """Return the number of embeddings of the model."""
    table = model.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    return table.shape[0]


def make_decoder(model: PreTrainedModel, cache_tokens: int | None = None) -> PooledDecoder:
    """Return a decoder of ``model``; raises ModelError unless it reproduces the model's logits.

    ``cache_tokens`` is by default what fits into 4 GiB, on a GPU into 60 % of the free memory.
    """
    trial = PooledDecoder(model, TRIAL_CAPACITY)
    try:
        difference = _difference(trial, model)
    # Third-party modelling code may raise anything here.
    except Exception as error:
        raise ModelError(f"{_CANNOT_CONTINUE}: it fails with {error!r}") from error
    if not difference <= _TOLERANCE.get(model.dtype, _HALF_TOLERANCE):  # NaN counts as a failure
        raise ModelError(f"{_CANNOT_CONTINUE}: its logits change by {difference:.2g}")
    budget = _CPU_CACHE_BYTES
    if model.device.type == "cuda":
        budget = int(torch.cuda.mem_get_info(model.device)[0] * _GPU_CACHE_SHARE)
    return PooledDecoder(model, cache_tokens or max(1, budget // max(1, trial.token_bytes())))


@torch.inference_mode()
def _logits(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """Return the logits after each id, by one pass without any cache: ``[tokens, V]``."""
    output = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    logits: Tensor = output.logits
    return logits[0].float()


def probe_ids(model: PreTrainedModel) -> list[int]:
    """Return ids to compare the passes of a :class:`PooledModel` with those of its model."""
    return [1 + (7 * i) % (vocabulary_size(model) - 1) for i in range(_PROBE_TOKENS)]


def trial_passes(
    pooled: PooledModel, probe: list[int]
) -> Iterator[tuple[list[tuple[PooledSequence, list[int]]], tuple[int, int]]]:
    """Yield the members of two passes over ``probe``, and how many ids each has read after it.

    The passes are a prefill of two lengths, and a step after a rollback.
    """
    short, long = pooled.new(), pooled.new()
    half = len(probe) // 2
    for ends in ((half, len(probe)), (half + 1, len(probe) - 1)):
        pooled.rollback(long, half - 1)
        members = [
            (sequence, probe[len(sequence.ids) : end])
            for sequence, end in zip((short, long), ends, strict=True)
        ]
        for sequence, new in members:
            pooled.reserve(sequence, len(new))
        yield members, ends


def _difference(decoder: PooledDecoder, model: PreTrainedModel) -> float:
    """Return the largest relative error of the trial passes."""
    probe = probe_ids(model)
    expected = _logits(model, probe)
    errors = []
    for members, ends in trial_passes(decoder, probe):
        logits = decoder.forward(members).float()
        for row, end in enumerate(ends):
            reference = expected[end - 1]
            errors.append(float((logits[row] - reference).norm() / reference.norm()))
    return max(errors)
