"""User-defined functions: ``module:callable`` or ``path/to/file.py:callable``."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from tessy.core.errors import ConfigError, cause_of

Result = TypeVar("Result")


class UserRule:
    """A user-defined function, called in a thread of its own.

    ``trial`` are arguments that it must accept; ``option`` and ``signature`` appear in messages.
    """

    def __init__(
        self, spec: str, *, option: str, signature: str, trial: tuple[object, ...]
    ) -> None:
        self.name = spec
        self._rule = _load(spec, option, signature)
        _check_signature(self._rule, spec, trial, signature)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tessy-rule")

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _call(self, *arguments: object, shown: str) -> Any:  # noqa: ANN401  # checked by the caller
        try:
            return self._rule(*arguments)
        except Exception as error:
            raise ConfigError(
                f"the rule {self.name} raised {type(error).__name__}: {error}, for {shown}; fix "
                "the rule"
            ) from error


def _load(spec: str, option: str, signature: str) -> Callable[..., Any]:
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


def _check_signature(
    function: Callable[..., Any], name: str, trial: tuple[object, ...], signature: str
) -> None:
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
            f"{label}: importing {where} raised {type(error).__name__}: {cause_of(error)}; a "
            "module must be importable from here (PYTHONPATH), a file is given as path/to/file.py"
        ) from error
    return module
