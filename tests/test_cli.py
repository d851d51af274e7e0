from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from tessy import cli
from tessy.core import errors
from tests.support import commands
from tests.support.paths import ROOT

LIBRARIES_OF_MODELS = ("torch", "transformers", "aiohttp", "pyarrow", "numpy")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )


def imported_by(*arguments: str, among: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Lines a command line prints in a fresh process, and which of the modules it imported."""
    done = python(
        "import atexit, sys, tessy.cli\n"
        f"atexit.register(lambda: print(*(m for m in {among} if m in sys.modules)))\n"
        f"sys.exit(tessy.cli.main({list(arguments)}))"
    )
    assert done.returncode == 0, done.stderr
    *lines, modules = done.stdout.splitlines()
    return lines, modules.split()


def test_help_lists_the_commands_and_imports_nothing_of_weight():
    among = (*LIBRARIES_OF_MODELS, "tyro", "pydantic", "rich")
    lines, modules = imported_by("--help", among=among)
    assert modules == []
    for name, command in cli.COMMANDS.items():
        assert any(line.split()[:1] == [name] and command.summary in line for line in lines)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_help_that_imports_no_library_of_models(name):
    lines, modules = imported_by(name, "--help", among=(*LIBRARIES_OF_MODELS, "tyro"))
    assert lines[0].startswith(f"usage: tessy {name} ")
    assert modules == ["tyro"]


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tessy {version('tessy')}\n"


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "a command is missing"), (["sythesize"], "'sythesize'")]
)
def test_an_unknown_command_shows_the_commands(arguments, said, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "synthesize" in err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (errors.ConfigError("limit: got 0"), 2, "tessy: limit: got 0\n"),
        (errors.RunError("held by pid 7"), 2, "tessy: held by pid 7\n"),
        (errors.EngineMisconfigured("no model x"), 3, "tessy: no model x\n"),
        (errors.EngineUnavailable("refused"), 3, "tessy: refused\n"),
        (errors.StorageError("the disk is full"), 1, "tessy: the disk is full\n"),
        (KeyboardInterrupt(), 130, "tessy: interrupted\n"),
    ],
)
def test_an_error_that_the_user_can_fix_is_a_message_and_an_exit_code(
    raised, code, said, capsys, monkeypatch
):
    monkeypatch.setattr(commands, "raised", [raised])
    monkeypatch.setitem(cli.COMMANDS, "fail", commands.FAIL)
    assert cli.main(["fail"]) == code
    assert capsys.readouterr().err == said


def test_a_command_decides_its_own_exit_code_and_gets_the_rest_of_the_line(monkeypatch):
    monkeypatch.setattr(commands, "seen", [])
    monkeypatch.setitem(cli.COMMANDS, "count", commands.COUNT)
    assert cli.main(["count", "--a", "b"]) == 130
    assert commands.seen == ["b"]


def test_an_unexpected_error_keeps_its_traceback():
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
def test_a_closed_output_ends_the_command_quietly(arguments, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    code = f"import sys, tessy.cli; sys.exit(tessy.cli.main({arguments}))"
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=output, stderr=subprocess.PIPE, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.stderr == b""
    assert done.returncode == 141


def test_a_pipe_that_broke_elsewhere_is_an_error_like_any_other(monkeypatch):
    monkeypatch.setattr(commands, "raised", [BrokenPipeError("a server's socket")])
    monkeypatch.setitem(cli.COMMANDS, "fail", commands.FAIL)
    with pytest.raises(BrokenPipeError, match="socket"):
        cli.main(["fail"])


def test_a_bad_toml_ends_with_its_line_before_any_work(tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text("seed = 0\nsede = 1\n", "utf-8")
    assert cli.main(["synthesize", "--config", str(path)]) == 2
    assert f"{path}:2: sede: there is no such option; did you mean seed?" in capsys.readouterr().err
