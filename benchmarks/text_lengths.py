"""Lengths of texts of random words (pure; without tessy, because vLLM imports it, too)."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

KEY_TOKENS = 40  # problems are longer and differ within these
BREAK_TOKENS = 2  # line breaks after the end of the thinking
_FILE = "ends.json"


def question_key(ids: Sequence[int]) -> int:
    """Return the key by which a server identifies a problem.

    Args:
        ids: Ids of a prompt, at least the first ``KEY_TOKENS``.
    """
    return zlib.crc32(repr(list(ids[:KEY_TOKENS])).encode())


def answer_length(key: int, mean: int) -> int:
    """Return the length of an answer: lognormal, at most four times ``mean``."""
    sigma = 0.6
    drawn = random.Random(key).lognormvariate(-sigma * sigma / 2, sigma)
    return max(1, round(mean * min(4.0, drawn)))


@dataclass(frozen=True, slots=True)
class Ends:
    """Ends for a model that writes words without end.

    Attributes:
        end_thinking: Id that ends the thinking.
        end_turn: Id that ends the answer.
        thinking_tokens: Mean length of the thinking, which is geometric.
        answer_tokens: Mean length of answers.
    """

    end_thinking: int
    end_turn: int
    thinking_tokens: int
    answer_tokens: int

    def write(self, folder: Path) -> None:
        """Write the settings into the model's ``folder``."""
        (folder / _FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Ends:
        """Read the settings of :meth:`write`."""
        return cls(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
