import csv
import datetime
import decimal
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tessy.core.errors import BadRowsError, InputError
from tessy.storage.problems import load_problems

TURNS = [{"role": "user", "content": "Why?"}]
ROWS = [{"id": "a", "prompt": "één, two?", "level": "x"}, {"id": "b", "prompt": "q2", "level": "y"}]


def save_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def save_bom(path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8-sig")


def save_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS), encoding="utf-8-sig")


def save_wrapped(path: Path) -> None:
    path.write_text(json.dumps({"version": 1, "data": ROWS}))


def save_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)


def save_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path)


def packed(save: Callable[[Path], None]) -> Callable[[Path], None]:
    def save_packed(path: Path) -> None:
        save(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return save_packed


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.jsonl", save_jsonl),
        ("a.ndjson", save_bom),
        ("a.json", save_json),
        ("A.JSON", save_wrapped),
        ("a.csv", save_csv),
        ("a.parquet", save_parquet),
        ("a.jsonl.gz", packed(save_bom)),
        ("a.json.gz", packed(save_json)),
        ("a.csv.gz", packed(save_csv)),
    ],
)
def test_all_formats_yield_the_same_problems(tmp_path, name, save):
    save(tmp_path / name)
    first, second = load_problems(tmp_path / name).problems
    assert (first.id, first.extra) == ("a", {"level": "x"})
    assert [message.model_dump() for message in first.messages] == [
        {"role": "user", "content": "één, two?"}
    ]
    assert second.id == "b"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "does not exist"),
        ("in.xlsx", b"x", ".parquet"),
        ("in", b"x", ".jsonl"),
        ("in.parquet.gz", b"x", ".jsonl"),
        ("in.jsonl", b"", "no usable row"),
        ("in.json", b" \n", "no usable row"),
        ("in.json", b"[]", "no usable row"),
        ("in.csv", b"", "no usable row"),
        ("in.csv", b"prompt\n", "no usable row"),
        ("in.json", b'[\n{"prompt": "a"},\n{"prompt" "b"}\n]', ":3: expected JSON"),
        ("in.json", b'{"a": [], "b": []}', "one array"),
        ("in.json", b'"text"', "array of rows"),
        ("in.json", b'["\n\xff"]', ":2: not UTF-8"),
        ("in.json", b"[" * 100_000, "nested too deeply"),
        ("in.csv", b'prompt\na\n"b"x\n', ":3: expected CSV"),
        ("in.csv", b"prompt,prompt\na,b\n", "'prompt'"),
        ("in.parquet", b"not parquet", "expected Parquet"),
        ("in.jsonl.gz", b"not gzip", "cannot be read"),
        ("in.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n' * 99, mtime=0)[:-12], "cannot be read"),
    ],
)
def test_an_unusable_file_is_named_with_what_to_do(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_problems(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_directory_without_data_is_refused(tmp_path):
    (tmp_path / "in.jsonl").mkdir()
    with pytest.raises(InputError, match="has no data files"):
        load_problems(tmp_path / "in.jsonl")


def test_csv_faults_name_the_first_line_of_a_row(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('id,prompt\na,"two\nlines"\n\nb\nc,\n')
    with pytest.raises(BadRowsError) as caught:
        load_problems(path)
    assert [(f.line, f.field) for f in caught.value.faults] == [(5, "(row)"), (6, "prompt")]


def test_csv_cells_may_be_long_and_contain_turns(tmp_path):
    path = tmp_path / "in.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["messages"], [json.dumps(TURNS)], ["Hi" + "i" * 200_000]])
    kept = load_problems(path, skip_bad_rows=True)
    assert [m.content for m in kept.problems[0].messages] == ["Why?"]
    assert [(f.line, f.field) for f in kept.faults] == [(3, "messages")]


def test_not_a_number_becomes_json(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "q", "a": NaN, "b": [-Infinity]}\n')
    assert load_problems(path).problems[0].extra == {"a": None, "b": ["-Infinity"]}


def test_parquet_types_become_json_values(tmp_path):
    day = datetime.datetime(2024, 2, 3, 4, 5, 6)
    columns = {
        "id": pa.array([1.0, None]),
        "prompt": pa.array(["q", "r"]),
        "raw": pa.array([b"text", b"\xff\x00"]),
        "day": pa.array([day.date(), None]),
        "us": pa.array([day, None]),
        "ns": pa.array([1, None], pa.timestamp("ns")),
        "dec": pa.array([decimal.Decimal("1.50"), None]),
        "nan": pa.array([float("nan"), float("inf")]),
        "deep": pa.array([{"xs": [1, 2], "t": day}, None]),
        "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        "word": pa.array(["w", "w"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    first, second = load_problems(tmp_path / "in.parquet").problems
    assert first.id == "1"
    assert first.extra == {
        "raw": "text",
        "day": "2024-02-03",
        "us": "2024-02-03T04:05:06",
        "ns": "1970-01-01 00:00:00.000000001",
        "dec": "1.50",
        "nan": None,
        "deep": {"xs": [1, 2], "t": "2024-02-03T04:05:06"},
        "map": [["k", 1]],
        "word": "w",
    }
    assert second.extra["raw"] == "/wA="
    assert second.extra["nan"] == "Infinity"
    assert json.loads(json.dumps(second.extra, allow_nan=False)) == second.extra


def test_importing_loads_nothing_heavy():
    heavy = "{'pyarrow', 'torch', 'transformers'}"
    code = f"import sys, tessy.storage.problems; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
