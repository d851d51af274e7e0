"""Readers of input files: JSON lines, JSON, CSV and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from tessy.core.errors import InputError, RowFault, cause_of
from tessy.storage.jsonl import loads, plain

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]  # ships no types

_BATCH = 1024  # rows of Parquet in memory
_BOM = b"\xef\xbb\xbf"


class InputRow(NamedTuple):
    """A row and its 1-based line, or its number in formats without lines.

    ``offset`` is that of the line in bytes, for :func:`read_row`; None without one.
    """

    line: int
    value: object
    offset: int | None = None


def read_rows(path: Path) -> Iterator[InputRow | RowFault]:
    """Yield the rows of ``path`` as JSON values, lazily where the format allows it.

    The format follows from the extension: ``.jsonl``/``.ndjson``, ``.json`` (an array, or an
    object with exactly one array among its values), ``.csv`` (with a header; every value is
    text), each also with ``.gz`` or ``.zst``, ``.parquet``, and ``.arrow`` (of ``datasets``).
    Blank lines are skipped. Raises InputError if the file cannot be read.
    """
    extension, compression = _format(path.name)
    if extension not in _READERS:
        raise InputError(
            f"{path}: tessy reads .jsonl, .json and .csv (each also with .gz or .zst), .parquet "
            "and .arrow; rename the file to match its format, or convert it"
        )
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path (current directory: {Path.cwd()})")
    if path.is_dir():
        raise InputError(f"{path} is a directory; give a file")
    try:
        with _open(path, compression) as file:
            yield from _READERS[extension](path, file)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def read_row(path: Path, line: int, offset: int | None) -> object:
    """Read one row again, by its :class:`InputRow`; InputError if it cannot be read."""
    if offset is None or _format(path.name)[1]:
        for row in read_rows(path):
            if row.line == line and isinstance(row, InputRow):
                return row.value
        raise InputError(f"{path} has no row {line} any more; restore the file")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return loads(file.readline().removeprefix(_BOM))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}:{line}: cannot be read again: {error}") from None


def is_readable(name: str) -> bool:
    """Return whether a file name has the extension of a format that can be read."""
    return _format(name)[0] in _READERS


def _format(name: str) -> tuple[str, str]:
    """Return the extensions of the format and of the compression ("" without one)."""
    path = Path(name.lower())
    if path.suffix in (".gz", ".zst") and Path(path.stem).suffix not in _BINARY:
        return Path(path.stem).suffix, path.suffix
    return path.suffix, ""


def _open(path: Path, compression: str) -> IO[bytes]:
    if compression == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    if compression == ".zst":
        import pyarrow as pa

        return cast("IO[bytes]", io.BufferedReader(pa.CompressedInputStream(str(path), "zstd")))
    return path.open("rb")


def _json_lines(path: Path, file: IO[bytes]) -> Iterator[InputRow | RowFault]:
    end = 0
    for number, line in enumerate(file, 1):
        offset, end = end, end + len(line)
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.strip():
            continue
        try:
            value = loads(line)
            if number == 1 and isinstance(value, list):
                raise _is_array(path)
            yield InputRow(number, value, offset)
        except ValueError as error:
            if number == 1 and line.lstrip().startswith(b"["):
                raise _is_array(path) from None
            yield RowFault(str(path), number, "(line)", f"expected JSON: {_reason(error)}")


def _is_array(path: Path) -> InputError:
    return InputError(f"{path}: is one JSON array, not a row per line; rename the file to .json")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start + 1}"
    return str(error)


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None


def _json(path: Path, file: IO[bytes]) -> Iterator[InputRow | RowFault]:
    text = _text(path, file.read())
    if not text.strip():
        return
    try:
        document = loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise InputError(
            f"{path}:{line}: expected JSON: {_reason(error)}; if each line is a separate row, "
            "rename the file to .jsonl"
        ) from None
    if isinstance(document, dict):
        arrays = [value for value in document.values() if isinstance(value, list)]
        if len(arrays) != 1:
            raise InputError(
                f"{path}: expected an array of rows, or an object with one array among its values; "
                f"got an object with {len(arrays)}"
            )
        document = arrays[0]
    if not isinstance(document, list):
        raise InputError(f"{path}: expected an array of rows, got {type(document).__name__}")
    for number, value in enumerate(document, 1):
        yield InputRow(number, value)


def _csv(path: Path, file: IO[bytes]) -> Iterator[InputRow | RowFault]:
    csv.field_size_limit(2**31 - 1)  # the default is 128 kB
    text = io.StringIO(_text(path, file.read()), newline="")
    reader = csv.reader(text, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            # Row boundaries are lost from here on.
            raise InputError(f"{path}:{line}: expected CSV: {error}") from None
        if cells is None:
            return
        if not cells:
            continue
        if not header:
            header = cells
            repeated = {name for name in header if header.count(name) > 1}
            if repeated:
                raise InputError(f"{path}:{line}: two columns have the name {min(repeated)!r}")
        elif len(cells) != len(header):
            message = f"expected {len(header)} cells as in the header, got {len(cells)}"
            yield RowFault(str(path), line, "(row)", message)
        else:
            yield InputRow(line, dict(zip(header, cells, strict=True)))


def _parquet(path: Path, file: IO[bytes]) -> Iterator[InputRow | RowFault]:
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        table = pq.ParquetFile(file)
        yield from _batches(path, table.schema_arrow.names, table.iter_batches(batch_size=_BATCH))
    except pa.ArrowException as error:
        raise InputError(f"{path}: expected Parquet: {cause_of(error)}") from error


def _arrow(path: Path, file: IO[bytes]) -> Iterator[InputRow | RowFault]:
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(file) as stream:
            yield from _batches(path, stream.schema.names, stream)
    except pa.ArrowException as error:
        raise InputError(f"{path}: expected an Arrow stream: {cause_of(error)}") from error


def _batches(
    path: Path, names: list[str], batches: Iterable[pa.RecordBatch]
) -> Iterator[InputRow | RowFault]:
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name")
    number = 0
    for batch in batches:
        columns = [_column(path, batch, name) for name in names]
        for values in zip(*columns, strict=True):
            number += 1
            yield InputRow(number, dict(zip(names, map(plain, values), strict=True)))


def _column(path: Path, batch: pa.RecordBatch, name: str) -> list[object]:
    import pyarrow as pa

    column = batch.column(name)
    # Nanoseconds are finer than Python's datetime: pyarrow would return pandas types, or raise
    # without pandas.
    if getattr(column.type, "unit", "") != "ns":
        try:
            return list(column.to_pylist())
        except (ValueError, pa.ArrowException):
            pass  # years outside the range of Python's datetime
    try:
        return list(column.cast(pa.string()).to_pylist())
    except (ValueError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: column {name!r} of type {column.type} cannot be read: {cause_of(error)}"
        ) from error


_READERS: dict[str, Callable[[Path, IO[bytes]], Iterator[InputRow | RowFault]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
_BINARY = (".parquet", ".arrow")  # compressed inside
