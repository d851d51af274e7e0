"""Hidden tests of LiveCodeBench, decoded without running code from the data file (pure).

They are a JSON list as text, or ``base64(zlib(pickle(text)))``. The pickle is parsed opcode by
opcode and never executed: it may contain one string and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import zlib

from tessy.evaluation.programs.base import ProgramTest
from tessy.storage.jsonl import loads

# Limits of decompression: real tests are numbers and words, far below them.
_MAX_RATIO = 300  # of decompressed to compressed bytes, above _ALWAYS_ALLOWED_BYTES
_ALWAYS_ALLOWED_BYTES = 64 << 20
_MAX_BYTES = 2 << 30
_OPCODES = frozenset({
    "PROTO", "FRAME", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "PUT", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "STOP",
})  # fmt: skip


class BadTestsError(ValueError):
    """Tests that cannot be used."""


def decode_private_tests(encoded: str) -> list[ProgramTest]:
    """Return the tests in a field ``private_test_cases``; BadTestsError if it is unusable."""
    if encoded.lstrip().startswith("["):
        return parse_tests(encoded)
    try:
        packed = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise BadTestsError("expected a JSON list, or base64 of compressed tests") from None
    return parse_tests(_unpickled(_inflated(packed)))


def parse_tests(text: str) -> list[ProgramTest]:
    """Return the tests in a JSON list of ``{input, output}``; BadTestsError if it is none."""
    try:
        tests = loads(text)
    except ValueError as error:
        raise BadTestsError(f"expected a JSON list of tests: {error}") from None
    if not isinstance(tests, list):
        raise BadTestsError(f"expected a JSON list of tests, got {type(tests).__name__}")
    found = []
    for number, test in enumerate(tests):
        fields = test if isinstance(test, dict) else {}
        given, output = fields.get("input"), fields.get("output")
        if not (isinstance(given, str) and isinstance(output, str)):
            raise BadTestsError(f"expected text in `input` and `output` of test {number}")
        found.append(ProgramTest(given, output))
    return found


def _inflated(packed: bytes) -> bytes:
    limit = min(_MAX_BYTES, max(_ALWAYS_ALLOWED_BYTES, _MAX_RATIO * len(packed)))
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(packed, limit)
    except zlib.error as error:
        raise BadTestsError(f"expected compressed tests: {error}") from None
    if inflate.unconsumed_tail:
        raise BadTestsError(
            f"{len(packed):,} bytes expand to more than {limit:,}, which no real tests do"
        )
    if not inflate.eof:
        raise BadTestsError("expected compressed tests: they are cut off")
    return content


def _unpickled(pickled: bytes) -> str:
    texts = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name not in _OPCODES:
                raise BadTestsError(
                    f"expected a pickled text, got a pickle with the opcode {opcode.name}, which "
                    "could run code"
                )
            if isinstance(argument, str):
                texts.append(argument)
    except BadTestsError:
        raise
    except ValueError as error:
        raise BadTestsError(f"expected a pickled text: {error}") from None
    if len(texts) != 1:
        raise BadTestsError(f"expected one pickled text, got {len(texts)}")
    return texts[0]
