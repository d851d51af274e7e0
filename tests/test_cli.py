from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from typing import BinaryIO

import pytest

from tessy import cli
from tessy.core import errors
from tests.support import commands
from tests.support.paths import ROOT

SLOW_LIBRARIES = ("torch", "transformers", "aiohttp", "pyarrow", "numpy")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )


def run_with_output(
    output: BinaryIO, arguments: list[str], unbuffered: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in a new process whose standard output is ``output``."""
    code = f"import sys, tessy.cli; sys.exit(tessy.cli.main({arguments}))"
    return subprocess.run(
        [sys.executable, "-c", code], stdout=output, stderr=subprocess.PIPE, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip


def imported_by(*arguments: str, among: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Run a command line in a new process; return its output lines and the imported modules."""
    done = python(
        "import atexit, sys, tessy.cli\n"
        f"atexit.register(lambda: print(*(m for m in {among} if m in sys.modules)))\n"
        f"sys.exit(tessy.cli.main({list(arguments)}))"
    )
    assert done.returncode == 0, done.stderr
    *lines, modules = done.stdout.splitlines()
    return lines, modules.split()


def test_help_lists_the_commands_without_slow_imports():
    among = (*SLOW_LIBRARIES, "tyro", "pydantic", "rich")
    lines, modules = imported_by("--help", among=among)
    assert modules == []
    for name, command in cli.COMMANDS.items():
        assert any(line.split()[:1] == [name] and command.summary in line for line in lines)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_imports_no_model_library(name):
    lines, modules = imported_by(name, "--help", among=(*SLOW_LIBRARIES, "tyro"))
    assert lines[0].startswith(f"usage: tessy {name} ")
    assert modules == ["tyro"]


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tessy {version('tessy')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "a command is missing"), (["sythesize"], "'sythesize'")]
)
def test_an_unknown_command_prints_the_usage(arguments, message, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "synthesize" in err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (errors.ConfigError("limit: got 0"), 2, "tessy: limit: got 0\n"),
        (errors.RunError("held by pid 7"), 2, "tessy: held by pid 7\n"),
        (errors.EngineMisconfigured("no model x"), 3, "tessy: no model x\n"),
        (errors.EngineUnavailable("refused"), 3, "tessy: refused\n"),
        (errors.StorageError("the disk is full"), 1, "tessy: the disk is full\n"),
        (KeyboardInterrupt(), 130, "tessy: interrupted\n"),
    ],
)
def test_errors_of_tessy_are_printed_without_a_traceback(
    raised, code, message, capsys, monkeypatch
):
    monkeypatch.setattr(commands, "raised", [raised])
    monkeypatch.setitem(cli.COMMANDS, "fail", commands.FAIL)
    assert cli.main(["fail"]) == code
    assert capsys.readouterr().err == message


def test_a_command_gets_its_options_and_returns_the_exit_code(monkeypatch):
    monkeypatch.setattr(commands, "seen", [])
    monkeypatch.setitem(cli.COMMANDS, "count", commands.COUNT)
    assert cli.main(["count", "--a", "b"]) == 130
    assert commands.seen == ["b"]


def test_an_unexpected_error_has_a_traceback():
    code = (
        "import sys, tessy.cli\n"
        "from tests.support import commands\n"
        "commands.raised.append(RuntimeError('a bug'))\n"
        "tessy.cli.COMMANDS['fail'] = commands.FAIL\n"
        "sys.exit(tessy.cli.main(['fail']))"
    )
    done = python(code)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "RuntimeError: a bug" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["synthesize", "--help"]])
def test_a_closed_output_ends_the_command_without_a_message(arguments, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = run_with_output(output, arguments, unbuffered)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["synthesize", "--help"]])
def test_a_full_disk_under_the_output_is_one_line(arguments, unbuffered):
    with open("/dev/full", "wb") as output:
        done = run_with_output(output, arguments, unbuffered)
    assert done.stderr == b"tessy: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_another_broken_pipe_is_an_error(monkeypatch):
    monkeypatch.setattr(commands, "raised", [BrokenPipeError("a server's socket")])
    monkeypatch.setitem(cli.COMMANDS, "fail", commands.FAIL)
    with pytest.raises(BrokenPipeError, match="socket"):
        cli.main(["fail"])


def test_the_error_for_an_invalid_toml_names_the_line(tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text("seed = 0\nsede = 1\n", "utf-8")
    assert cli.main(["synthesize", "--config", str(path)]) == 2
    assert f"{path}:2: sede: there is no such option; did you mean seed?" in capsys.readouterr().err
