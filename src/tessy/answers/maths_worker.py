r"""Worker process of :mod:`tessy.answers.maths`: compares pairs from standard input.

Writes a line when it is ready, then ``true`` or ``false`` for each line read, a JSON list
``[reference, answer, tolerance]``, whose tolerance is null or the largest difference of two numbers
that agree. Ends with its standard input.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

_MEMORY_BYTES = 2 << 30
_EVALUATION_SECONDS = 5  # of a number, as for the comparisons of Math-Verify


def _number(parsed: list[Any]) -> Any:  # noqa: ANN401  # sympy has no types
    """Return the real number that a text was parsed to; None for anything else."""
    import sympy  # type: ignore[import-untyped]  # ships no types

    value = parsed[0] if parsed else None
    if isinstance(value, sympy.Equality):
        value = value.rhs
    if not isinstance(value, sympy.Expr) or value.free_symbols:
        return None
    number = sympy.N(value, 30)
    return number if number.is_Float or number.is_Integer else None


def _near(gold: list[Any], target: list[Any], tolerance: float) -> bool:
    signal.alarm(_EVALUATION_SECONDS)
    try:
        numbers = _number(gold), _number(target)
        return None not in numbers and bool(abs(numbers[0] - numbers[1]) <= tolerance)
    finally:
        signal.alarm(0)


def _expire(*_: object) -> None:
    raise TimeoutError


def main() -> None:
    """Compare until standard input ends."""
    # Ctrl-C in a terminal reaches this process too, but the parent decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _expire)
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    rules = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]

    def same(reference: str, answer: str, tolerance: float | None) -> bool:
        gold, target = (
            parse(f"\\boxed{{{text}}}", extraction_config=rules) for text in (reference, answer)
        )
        if tolerance is not None:
            return _near(gold, target, tolerance)
        return bool(gold and target and verify(gold, target))  # not symmetric: the reference first

    print("ready", flush=True)
    for line in sys.stdin:
        try:
            result = same(*json.loads(line))
        except MemoryError:
            print("false", flush=True)
            return  # what is left in sympy's caches is unknown; the parent starts another process
        except BaseException:  # math_verify's TimeoutException derives from it
            result = False
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
