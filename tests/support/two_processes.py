"""Run a command of tessy in two processes with the environment that torchrun gives them.

``python -m tests.support.two_processes sft …``: the processes are forked after the import of TRL,
which each process of torchrun would repeat.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys


def start(rank: int, port: int, arguments: list[str]) -> int:
    """Fork a process that runs the command; return its id."""
    if pid := os.fork():
        return pid
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in values.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    from tessy.cli import main

    code = 1
    try:
        code = main(arguments)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    importlib.import_module("tessy.training.trainer")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = [start(rank, port, sys.argv[1:]) for rank in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    sys.exit(max(codes, key=abs))
