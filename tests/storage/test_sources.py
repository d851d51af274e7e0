"""Files, globs, folders of data sets and the hub as input."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets  # type: ignore[import-untyped]  # ships no types
import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
import pytest

from tessy.core.errors import BadRowsError, ConfigError, InputError
from tessy.storage.problems import load_problems
from tessy.storage.sources import resolve_sources


def rows(*prompts: str) -> bytes:
    return b"".join(json.dumps({"prompt": prompt}).encode() + b"\n" for prompt in prompts)


def texts(*sources: Path, split: str | None = None) -> list[str]:
    loaded = load_problems(sources, split=split)
    return [problem.messages[0].content for problem in loaded.problems]


def test_several_files_and_globs_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(rows("b"))
    (tmp_path / "part-2.jsonl.gz").write_bytes(gzip.compress(rows("2")))
    with pa.CompressedOutputStream(str(tmp_path / "part-1.jsonl.zst"), "zstd") as file:
        file.write(rows("1"))
    assert texts(tmp_path / "b.jsonl", tmp_path / "part-*") == ["b", "1", "2"]


def test_a_fault_names_the_file_of_its_row(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"id": "x", "prompt": "{name}"}}\n')
    with pytest.raises(BadRowsError) as caught:
        load_problems([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    (fault,) = caught.value.faults
    assert (fault.file, fault.line, fault.field) == (str(tmp_path / "b.jsonl"), 1, "id")
    assert f"another problem at {tmp_path / 'a.jsonl'}:1" in fault.message


def test_a_glob_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="matches no file"):
        resolve_sources([tmp_path / "*.jsonl"])


def test_an_array_called_jsonl_is_named(tmp_path: Path) -> None:
    for content in ('[{"prompt": "a"},\n{"prompt": "b"}]', '[{"prompt": "a"}]\n'):
        (tmp_path / "a.jsonl").write_text(content)
        with pytest.raises(InputError, match=r"rename the file to \.json$"):
            load_problems(tmp_path / "a.jsonl")


def test_saved_data_sets(tmp_path: Path) -> None:
    train = datasets.Dataset.from_list([{"prompt": "1"}, {"prompt": "2"}])
    test = datasets.Dataset.from_list([{"prompt": "3"}])
    train.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict(train=train, test=test).save_to_disk(tmp_path / "both")
    assert texts(tmp_path / "one") == ["1", "2"]
    assert texts(tmp_path / "both", split="test") == ["3"]
    with pytest.raises(InputError, match="the splits train, test; select one with --split"):
        texts(tmp_path / "both")
    with pytest.raises(InputError, match="no split 'dev'; it has train, test"):
        texts(tmp_path / "both", split="dev")


def test_folders_of_data_files(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001.jsonl", "test.jsonl", "README.md"):
        (tmp_path / name).write_bytes(rows(name))
    with pytest.raises(InputError, match="the splits train, test"):
        texts(tmp_path)
    assert texts(tmp_path, split="train") == ["train-00000-of-00001.jsonl"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no data files"):
        texts(tmp_path / "empty")


def test_hidden_files_and_metadata_are_no_data(tmp_path: Path) -> None:
    for name in (".cache/x.jsonl", "dataset_info.json", "a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(rows(name))
    assert texts(tmp_path) == ["a.jsonl"]


def test_a_split_in_several_folders_is_refused(tmp_path: Path) -> None:
    for name in ("main", "socratic"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-00000-of-00001.jsonl").write_bytes(rows(name))
    with pytest.raises(InputError, match="in the folders main, socratic"):
        texts(tmp_path, split="train")
    assert texts(tmp_path / "main", split="train") == ["main"]


def test_a_split_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(rows("a"))
    with pytest.raises(ConfigError, match="--split train"):
        texts(tmp_path / "a.jsonl", split="train")


class _Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that downloading a data set needs."""

    files: dict[str, bytes]
    commit = "a" * 40

    def _send(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        """Serve the list of files, and files."""
        if self.path.startswith("/api/datasets/me/maths"):
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": name}
                for name, body in self.files.items()
            ]
            self._send(json.dumps(tree).encode(), Content_Type="application/json")
            return
        _, _, name = self.path.removeprefix("/datasets/me/maths/resolve/").partition("/")
        if name not in self.files:
            self.send_error(404)
            return
        body = self.files[name]
        self._send(body, ETag=f'"{name}"', X_Repo_Commit=self.commit)

    def do_HEAD(self) -> None:
        """Answer like GET, without a body."""
        self.do_GET()

    def log_message(self, *arguments: object) -> None:
        """No-op: print no log."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handler = type(
        "Hub",
        (_Hub,),
        {
            "files": {
                "data/train-00000-of-00001.jsonl": rows("train"),
                "data/test-00000-of-00001.jsonl": rows("test"),
                "README.md": b"#",
            }
        },
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_data_sets_of_the_hub() -> None:
    assert texts(Path("hf://datasets/me/maths"), split="test") == ["test"]
    assert texts(Path("hf://datasets/me/maths@main/data/train-00000-of-00001.jsonl")) == ["train"]
    assert texts(Path("hf://datasets/me/maths/data/train*")) == ["train"]
    with pytest.raises(InputError, match=r"hf://datasets/me/maths has the splits train, test"):
        texts(Path("hf://datasets/me/maths"))
    with pytest.raises(InputError, match=r"hf://datasets/me/maths/other.jsonl cannot be read"):
        texts(Path("hf://datasets/me/maths/other.jsonl"))
    with pytest.raises(InputError, match="expected hf://datasets/OWNER/NAME"):
        texts(Path("hf://me/maths"))
