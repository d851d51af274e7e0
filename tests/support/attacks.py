"""Programs that try to escape from a sandbox, and what must become of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tessy.evaluation.sandbox.base import Ended

# Facts about the machine are on standard input; `attempt` prints what came of a call.
HEADER = """
import ctypes, errno, json, os, resource, signal, socket, subprocess, sys, threading, time
target = json.load(sys.stdin)

def attempt(what, *arguments):
    try:
        what(*arguments)
        print("done")
    except OSError as error:
        print(errno.errorcode[error.errno])

def call(name, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)

def write(path, mebibytes):
    with open(path, "wb") as file:
        for _ in range(mebibytes):
            file.write(bytes(1 << 20))
"""


@dataclass(frozen=True)
class Attack:
    """A program and its outcome.

    Attributes:
        code: The program, after :data:`HEADER`.
        output: Its standard output, if it ends with status 0.
        ended: What ends it.
        crashes: Whether it ends with another status.
        seconds: Limit of CPU time.
        differs: Output by the name of another sandbox, where that differs from ``output``.
    """

    code: str
    output: str = ""
    ended: Ended = "exit"
    crashes: bool = False
    seconds: float = 10.0
    differs: Mapping[str, str] = field(default_factory=dict)


_SHORT = 0.3  # limit of programs that reach it

HANGS = {
    "sleeps": Attack("time.sleep(1000)", ended="wall", seconds=_SHORT),
    "busy": Attack("while True: pass", ended="cpu", seconds=_SHORT),
    "busy in many processes": Attack(
        "for _ in range(3): os.fork()\nwhile True: pass", ended="cpu", seconds=_SHORT
    ),
    "ignores signals": Attack(
        "for n in range(1, 65):\n"
        "    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: pass",
        ended="cpu",
        seconds=_SHORT,
    ),
    "stops itself": Attack(
        "while True:\n    os.kill(os.getpid(), signal.SIGSTOP)\n    time.sleep(1)",
        ended="wall",
        seconds=_SHORT,
    ),
    "hangs without descriptors": Attack(
        "os.closerange(0, 100)\ntime.sleep(1000)", ended="wall", seconds=_SHORT
    ),
    "new session hangs": Attack(
        "if os.fork(): os._exit(0)\nos.setsid()\ntime.sleep(1000)", ended="exit", output=""
    ),
}

RESOURCES = {
    "fork bomb": Attack(
        "children = 0\n"
        "try:\n"
        "    while os.fork(): children += 1\n"
        "    time.sleep(1000)\n"
        "except BlockingIOError:\n"
        "    print(children <= 32)",
        output="True\n",
    ),
    "threads": Attack(
        "try:\n"
        "    for _ in range(1000): threading.Thread(target=time.sleep, args=(9,)).start()\n"
        "except RuntimeError:\n"
        "    print('no more')\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)",
        output="no more\n",
    ),
    "2 GiB": Attack(
        "try: bytearray(2 << 30)\nexcept MemoryError: print('no memory')", output="no memory\n"
    ),
    "much memory in many processes": Attack(
        "for _ in range(3): os.fork()\ndata = bytearray(100 << 20)\ntime.sleep(1000)",
        ended="memory",
    ),
    "fills the temporary folder": Attack(
        "attempt(write, os.environ['TMPDIR'] + '/large', 5)\n",
        output="EFBIG\n",
        differs={"landlock": "EACCES\n"},
    ),
    "fills it with many files": Attack(
        "folder = os.environ['TMPDIR']\n"
        "attempt(lambda: [write(f'{folder}/{n}', 1) for n in range(9)])\n",
        output="ENOSPC\n",
        differs={"landlock": "EACCES\n"},
    ),
    "fills shared memory": Attack(
        "attempt(lambda: [write(f'/dev/shm/{n}', 1) for n in range(9)])",
        output="ENOSPC\n",
        differs={"landlock": "EACCES\n"},
    ),
    "memory as a file": Attack("attempt(os.memfd_create, 'x')", output="EPERM\n"),
    "endless output": Attack("while True: print('y' * 1000)", ended="output"),
    "endless errors": Attack("while True: print('y' * 1000, file=sys.stderr)", ended="output"),
    "an endless line": Attack("while True: sys.stdout.write('y' * 1000)", ended="output"),
    "raises its own limits": Attack(
        "try: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nexcept ValueError: print('denied')",
        output="denied\n",
    ),
}

NETWORK = {
    "connects to the host": Attack(
        "attempt(lambda: socket.create_connection(('127.0.0.1', target['port']), 1))",
        output="EPERM\n",
    ),
    "datagrams": Attack(
        "attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))", output="EPERM\n"
    ),
    "connects to an abstract socket": Attack(
        "attempt(lambda: socket.socket(socket.AF_UNIX).connect('\\0' + target['abstract']))",
        output="EPERM\n",
    ),
    "netlink": Attack("attempt(lambda: socket.socket(socket.AF_NETLINK))", output="EPERM\n"),
}

FILES = {
    "variables of the environment": Attack(
        "print(target['variable'] in os.environ, 'PYTHONPATH' in os.environ)",
        output="False False\n",
    ),
    "environment of the parent": Attack(
        "data = b''\n"
        "for name in ('1', str(os.getppid()), str(target['harness'])):\n"
        "    try: data += open(f'/proc/{name}/environ', 'rb').read()\n"
        "    except OSError: pass\n"
        "print(target['variable'].encode() in data)",
        output="False\n",
    ),
    "reads the expected output": Attack(
        "attempt(open, target['secret'])", output="ENOENT\n", differs={"landlock": "EACCES\n"}
    ),
    "lists folders of the host": Attack(
        "attempt(os.listdir, target['folder'])", output="ENOENT\n", differs={"landlock": "EACCES\n"}
    ),
    "reads accounts": Attack(
        "attempt(open, '/etc/passwd')", output="ENOENT\n", differs={"landlock": "EACCES\n"}
    ),
    "its box has the program only": Attack("print(os.listdir())", output="['main.py']\n"),
    "open descriptors": Attack(
        "found = []\n"
        "for n in range(3, 100):\n"
        "    try: found.append(os.fstat(n))\n"
        "    except OSError: pass\n"
        "print(len(found))",
        output="0\n",
    ),
    "changes its own source": Attack(
        "attempt(open, 'main.py', 'w')", output="EROFS\n", differs={"landlock": "EACCES\n"}
    ),
    "changes its input": Attack("attempt(open, '/dev/stdin', 'r+')", output="EACCES\n"),
    "changes rights": Attack("attempt(os.chmod, 0, 0o777)", output="EPERM\n"),
    "writes into the system": Attack(
        "attempt(open, '/usr/bin/new', 'w')", output="EROFS\n", differs={"landlock": "EACCES\n"}
    ),
    "writes beside the system": Attack(
        "attempt(open, '/new', 'w')", output="EROFS\n", differs={"landlock": "EACCES\n"}
    ),
    "writes into devices": Attack(
        "attempt(open, '/dev/new', 'w')", output="EROFS\n", differs={"landlock": "EACCES\n"}
    ),
    "writes to the host": Attack(
        "attempt(open, target['folder'] + '/new', 'w')",
        output="ENOENT\n",
        differs={"landlock": "EACCES\n"},
    ),
}

PROCESSES = {
    "kills its parent": Attack(
        "attempt(os.kill, os.getppid(), 9)",
        output="done\n",  # as the first process of its namespace it has none, and 0 is its group
        differs={"landlock": "EPERM\n"},
    ),
    "kills the judge": Attack(
        "attempt(os.kill, target['harness'], 9)",
        output="ESRCH\n",
        differs={"landlock": "EPERM\n"},
    ),
    "kills everything": Attack(
        "signal.signal(9 + 6, signal.SIG_IGN)\n"
        "try: os.kill(-1, 15)\n"
        "except OSError: pass\n"
        "print('alive')",
        output="alive\n",
    ),
    "debugs the judge": Attack(
        "attempt(call, 'ptrace', 16, target['harness'], 0, 0)", output="EPERM\n"
    ),
    "mounts": Attack(
        "attempt(call, 'mount', b'none', b'/usr', b'tmpfs', 0, None)", output="EPERM\n"
    ),
    "new namespaces": Attack("attempt(call, 'unshare', 0x10000000)", output="EPERM\n"),
    "segmentation fault": Attack("ctypes.string_at(0)", crashes=True),
    "aborts": Attack("os.abort()", crashes=True),
    "deep recursion": Attack(
        "sys.setrecursionlimit(10**6)\n"
        "def f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
        "print(f(10**5))",
        output="100000\n",
    ),
}

INPUT = {
    "reads its input twice": Attack("print(repr(sys.stdin.read()))", output="''\n"),
    "reopens its input": Attack("print(json.load(open('/dev/stdin')) == target)", output="True\n"),
    "invalid UTF-8": Attack("sys.stdout.buffer.write(bytes([255, 10]))", output="\ufffd\n"),
    "NUL bytes": Attack("print('a\\0b')", output="a\0b\n"),
    "leaves before its output": Attack("sys.stdout.write('42')\nos._exit(0)", output=""),
    "uses threads and processes": Attack(
        "threads = [threading.Thread(target=print, args=('thread',))]\n"
        "[one.start() for one in threads]\n"
        "[one.join() for one in threads]\n"
        "print(subprocess.run(['echo', 'process'], capture_output=True).stdout)",
        output="thread\nb'process\\n'\n",
    ),
}

# What a sandbox does not prevent, and says so: the output without the protection.
GAPS = {
    "sees whether a process exists": Attack(
        "attempt(os.kill, target['harness'], 0)", output="ESRCH\n", differs={"landlock": "EPERM\n"}
    ),
    "sees whether a file exists": Attack(
        "attempt(os.stat, target['secret'])", output="ENOENT\n", differs={"landlock": "done\n"}
    ),
    "sees the host's name": Attack(
        "print(os.uname().nodename == target['host'])",
        output="False\n",
        differs={"landlock": "True\n"},
    ),
}

ATTACKS: Mapping[str, Attack] = {
    **HANGS,
    **RESOURCES,
    **NETWORK,
    **FILES,
    **PROCESSES,
    **INPUT,
    **GAPS,
}
