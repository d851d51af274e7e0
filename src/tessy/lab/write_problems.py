"""Problems for the bundled models, as a file: ``python -m tessy.lab.write_problems FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

from tessy.lab.tasks import TASKS, make_problem, solve
from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically


def write_problems(path: Path, count: int, seed: int) -> None:
    """Write ``count`` problems to a .jsonl file, one row each, the three tasks in turn."""
    rng = Random(f"questions/{seed}")
    rows = []
    for number in range(count):
        problem = make_problem(TASKS[number % len(TASKS)], rng)
        rows.append(
            {
                "id": f"{problem.task}-{number + 1:05d}",
                "prompt": problem.text,
                "task": problem.task,
                "reference": solve(problem),
            }
        )
    write_atomically(path, b"".join(map(jsonl.dump_line, rows)))


def main(argv: list[str] | None = None) -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tessy.lab.write_problems", description=__doc__)
    parser.add_argument("file", type=Path, help="the .jsonl file to write")
    parser.add_argument("--count", type=int, required=True, help="number of problems")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    options = parser.parse_args(argv)
    write_problems(options.file, options.count, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
