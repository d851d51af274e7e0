"""Registries: objects defined under a common name by the modules of a package."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def find_in_modules(package: ModuleType, name: str) -> list[Any]:
    """Return ``name`` from every module of ``package`` that defines it, in alphabetical order."""
    modules = (
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    )
    return [getattr(module, name) for module in modules if hasattr(module, name)]
