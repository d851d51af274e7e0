"""Whether a tokenizer can be loaded by its name, found out in seconds."""

from __future__ import annotations

import threading
from pathlib import Path

_FILE = "tokenizer_config.json"


def can_find_tokenizer(name: str, *, seconds: float = 2.5) -> bool:
    """Return whether ``name`` is a local folder, or a hub id in the cache or on the hub.

    The hub has ``seconds`` to answer, where transformers repeats requests for minutes.
    """
    if Path(name).expanduser().is_dir():
        return True
    if is_path(name):
        return False
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        if isinstance(try_to_load_from_cache(name, _FILE), str):
            return True
    except HFValidationError:
        return False
    found: list[bool] = []
    # A look-up of the hub's address has no limit of its own.
    thread = threading.Thread(target=lambda: found.append(_is_on_hub(name, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(found) and found[0]


def is_path(name: str) -> bool:
    """Return whether ``name`` cannot be a hub id, which has one slash at most."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _is_on_hub(name: str, seconds: float) -> bool:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import GatedRepoError

    try:
        get_hf_file_metadata(hf_hub_url(name, _FILE), timeout=seconds)
    except GatedRepoError:
        return True  # loading it says what to do
    except Exception:  # errors of hub and connection have no common base class
        return False
    return True
