"""Saved states of a sample, in memory instead of the journal."""

from __future__ import annotations

from collections.abc import Sequence

from tessy.storage.journal import InFlight
from tessy.synthesis.resume import Piece, SampleState, dump_piece, load_state


class SavedSample:
    """Receives the saved states of a sample.

    Attributes:
        pieces: All pieces.
        states: All states.
        in_flight: The journal's content after each save.
    """

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.states: list[SampleState] = []
        self.in_flight: list[InFlight] = []

    def save(self, pieces: Sequence[Piece], state: SampleState) -> None:
        """Save to memory."""
        self.pieces.extend(pieces)
        self.states.append(state)
        content = [*(self.in_flight[-1].pieces if self.in_flight else ()), *map(dump_piece, pieces)]
        self.in_flight.append(InFlight(content, state.dump(len(content))))

    @property
    def loaded(self) -> list[SampleState]:
        """The states as read from the journal."""
        return [found[0] for found in map(load_state, self.in_flight) if found]
