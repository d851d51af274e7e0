"""Importing user-defined functions: ``module:callable`` or ``path/to/file.py:callable``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tessy.core.errors import ConfigError


def load_callable(spec: str, *, option: str, signature: str) -> Callable[..., Any]:
    """Import the function ``spec`` names; ``option`` and ``signature`` appear in messages."""
    where, separator, attribute = spec.rpartition(":")
    if not separator or not where or not attribute:
        raise ConfigError(f"{option} {spec!r}: write module:callable or path/to/file.py:callable")
    target: Any = _import(where, f"{option} {spec!r}")
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ConfigError(f"{option} {spec!r}: {where} has no {attribute!r}")
        target = getattr(target, part)
    if not callable(target):
        raise ConfigError(
            f"{option} {spec!r} is {type(target).__name__}, not a function {signature}"
        )
    function: Callable[..., Any] = target
    return function


def source_digest(spec: str) -> str | None:
    """Return the SHA-256 (hex) of the source file of ``spec``'s module; None if it has no file.

    Modules that it imports are not included.
    """
    where = spec.rpartition(":")[0]
    if not where.endswith(".py"):
        where = getattr(_import(where, spec), "__file__", None) or ""
    if not where:
        return None
    try:
        return hashlib.sha256(Path(where).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"{spec}: {where} cannot be read: {error}; fix its permissions"
        ) from error


def check_signature(
    function: Callable[..., Any], name: str, trial: tuple[object, ...], signature: str
) -> None:
    """Check that ``function`` is synchronous and accepts the arguments ``trial``."""
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"the rule {name} is async; give a plain function {signature}")
    try:
        actual = inspect.signature(function)
    except ValueError:
        return  # some built-in callables have no signature
    try:
        actual.bind(*trial)
    except TypeError as error:
        raise ConfigError(
            f"the rule {name}{actual} cannot be called as {signature}: {error}"
        ) from error


def _import(where: str, label: str) -> ModuleType:
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = Path(where)
        if not path.is_file():
            raise ConfigError(f"{label}: there is no file {where}")
        module_spec = importlib.util.spec_from_file_location(path.stem, path)
        assert module_spec is not None  # its name ends in .py
        assert module_spec.loader is not None
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:  # user code may raise anything on import
        raise ConfigError(
            f"{label}: importing {where} raised {type(error).__name__}: {error}; a "
            "module must be importable from here (PYTHONPATH), a file is given as path/to/file.py"
        ) from error
    return module
