"""Runs the program in ``main.py`` as the main module of a Python without tessy.

The judge copies this file next to the program, and a main module that calls :func:`start`. It runs
in the sandbox, in the process of the program, so its output is untrusted, and it never has the
expected result.
"""

from __future__ import annotations

import json
import os
import sys
from types import CodeType
from typing import Any

# The names that programs of LiveCodeBench can use without an import, in the order in which its
# runner imports them: later modules replace names of earlier ones.
_STARRED = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools "
    "operator io sys json builtins typing"
)
_PRELUDE = "\n".join(
    [f"from {name} import *" for name in _STARRED.split()]
    + [f"import {name}" for name in _STARRED.split() if name not in ("builtins", "typing")]
    + ["sys.setrecursionlimit(50000)"]
)


def start(nonce: str, function: str | None) -> None:
    """Run the program, or call one of its functions with arguments from standard input.

    Args:
        nonce: Begins the lines that the judge reads: ``NONCE result JSON`` on standard output,
            ``NONCE compile …`` on standard error.
        function: Name of the function, or of the method of ``Solution``; None: run the program.
    """
    space = sys.modules["__main__"].__dict__
    del space["driver"], sys.modules["driver"]
    space["__file__"], sys.argv[:] = "main.py", ["main.py"]
    with open("main.py", "rb") as file:
        source = file.read()
    try:
        code = compile(source, "main.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        os.write(2, f"\n{nonce} compile {type(error).__name__}: {error}\n".encode())
        os._exit(1)
    exec(_PRELUDE, space)  # noqa: S102
    if function is None:
        exec(code, space)  # noqa: S102
    else:
        _call(code, space, nonce, function)


def _call(code: CodeType, space: dict[str, Any], nonce: str, function: str) -> None:
    """Call a function of the program and write its result."""
    # Bound before the program runs, which may replace them.
    dumps, write, leave, output = json.dumps, os.write, os._exit, os.dup(1)
    arguments = [json.loads(line) for line in sys.stdin.read().split("\n")]
    space["__name__"] = "solution"  # code below `if __name__ == "__main__"` would read the input
    exec(code, space)  # noqa: S102
    owner = space["Solution"]() if "Solution" in space else None
    result = (space[function] if owner is None else getattr(owner, function))(*arguments)
    try:
        text = f"result {dumps(result, default=_plain)}"
    except (TypeError, ValueError, RecursionError) as error:
        text = f"no-result {type(result).__name__}: {error}"
    line = f"\n{nonce} {text}\n".encode()
    while line:
        line = line[write(output, line) :]
    leave(0)  # without waiting for threads


def _plain(value: object) -> object:
    """Return a number of numpy as one of Python."""
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        plain: object = value.item()
        return plain
    raise TypeError(f"{type(value).__name__} is not JSON")
