"""Rules of the project that linters do not check."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "tessy"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50

# Absolute paths that do not exist on every machine.
MACHINE_PATH = re.compile(r"(?<![\w.:/}])/(?:work|home|root|Users|opt|mnt|scratch|data)/[\w.-]+")


def tracked(*suffixes: str) -> list[Path]:
    """Return the files of the repository, including new ones, that end in one of ``suffixes``."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.splitlines())
    return [path for path in paths if path.is_file() and path.name.endswith(suffixes)]


PYTHON = tracked(".py")
# Phrases and training texts of the models are data, not text for readers.
DATA_FILES = {"lexicon_en.txt", "corpus.py", "styles.py"}
PROSE = [
    path
    for path in tracked(".py", ".md", ".toml", ".jinja", ".js")
    if (SOURCE in path.parents or path.parent in (ROOT, ROOT / "examples"))
    and path.name not in DATA_FILES
    and "models" not in path.parts
]
# Words that have a plainer equivalent; the list is not complete.
UNCLEAR = re.compile(
    r"\b(?:nobody|somebody|whoever|mend(?:s|ed|ing)?|in good order|once more|the pen|"
    r"what came of it|by heart)\b",
    re.IGNORECASE,
)
TEXT = tracked(".py", ".toml", ".md", ".txt", ".html", ".css", ".js", ".jinja", "Makefile", "run")


def long_functions(source: str) -> list[str]:
    """Return ``name: lines`` of functions with a long body, not counting the docstring."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MAX_FUNCTION_LINES:
                found.append(f"{node.name}: {lines}")
    return found


def class_names(source: str) -> list[str]:
    """Return the names of the classes of a module, without a leading underscore."""
    return [
        node.name.removeprefix("_")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
    ]


def test_a_class_name_occurs_once_in_the_source():
    counts = Counter(
        name
        for path in PYTHON
        if SOURCE in path.parents
        for name in class_names(path.read_text("utf-8"))
    )
    assert len(counts) > 100
    assert [name for name, count in counts.items() if count > 1] == []


def test_class_names_are_found():
    assert class_names("class A: ...\nclass _A:\n    class B: ...\n") == ["A", "A", "B"]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_language_is_plain(path):
    found = UNCLEAR.findall(path.read_text("utf-8"))
    assert found == []


def test_unclear_words_are_found():
    text = "Nobody asked; whoever mends it goes on in good order once more."
    assert UNCLEAR.findall(text) == ["Nobody", "whoever", "mends", "in good order", "once more"]


def test_files_of_the_repository_are_found():
    names = {path.name for path in PYTHON}
    assert {"errors.py", "cli.py", "test_house.py"} <= names


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert long_functions(source) == []


@pytest.mark.parametrize("path", TEXT, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_contains_a_path_of_one_machine(path):
    assert MACHINE_PATH.findall(path.read_text("utf-8")) == []


# Fields of the configurations, such as `device_batch`.
FIELDS = frozenset(
    node.target.id
    for path in sorted((SOURCE / "config").glob("*.py"))
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
)


def bare_options(source: str) -> list[str]:
    """Return the beginnings of error messages that name an option without its dashes."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            message = node.exc.args[0]
            first = message.values[0] if isinstance(message, ast.JoinedStr) else message
            match = re.match(r"([a-z_.]+): ", str(getattr(first, "value", "")))
            if match and match[1].rpartition(".")[2] in FIELDS:
                found.append(match[1])
    return found


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors_name_options_as_on_the_command_line(path):
    if SOURCE in path.parents and path.parts[-2:] != ("evaluation", "load.py"):
        assert bare_options(path.read_text("utf-8")) == []


def test_options_without_dashes_are_found():
    assert {"device_batch", "out", "problems"} <= FIELDS
    source = 'raise A(f"out: {x}")\nraise A("--out: no")\nraise A("a.model: " "x")\nraise A("x: y")'
    assert bare_options(source) == ["out", "a.model"]


def test_long_functions_are_found():
    body = "\n".join(f"    x = {n}" for n in range(MAX_FUNCTION_LINES))
    assert long_functions(f'def short():\n    """Doc."""\n{body}\n') == []
    assert long_functions(f"def long():\n{body}\n    return x\n") == ["long: 51"]


def test_paths_of_one_machine_are_found():
    machine = "/".join(["", "home", "somebody", "models"])
    assert len(MACHINE_PATH.findall(f"see {machine}")) == 1
    assert MACHINE_PATH.findall(f"https://example.org{machine} and tests{machine}") == []


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("__init__.py")))
def test_package_files_define_nothing(path):
    kinds = {type(node) for node in ast.parse(path.read_text("utf-8")).body}
    assert kinds <= {ast.Expr, ast.Import, ast.ImportFrom, ast.Assign}
