r"""Worker process of :mod:`tessy.answers.maths`: compares pairs from standard input.

Writes a line when it is ready, then ``true`` or ``false`` for each line read, a JSON list
``[reference, answer]``. Ends with its standard input.
"""

from __future__ import annotations

import json
import resource
import signal
import sys

_MEMORY_BYTES = 2 << 30


def main() -> None:
    """Compare until standard input ends."""
    # Ctrl-C in a terminal reaches this process too, but the parent decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    rules = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]

    def same(reference: str, answer: str) -> bool:
        gold, target = (
            parse(f"\\boxed{{{text}}}", extraction_config=rules) for text in (reference, answer)
        )
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
