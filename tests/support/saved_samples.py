"""What a sample saves in the journal, kept in memory as the same bytes."""

from __future__ import annotations

from collections.abc import Sequence

from tessy.storage.journal import InFlight
from tessy.synthesis.resume import Piece, SampleState, dump_piece, load_state


class SavedSample:
    """Receives what a sample saves.

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
        """Take the place of the function that writes into the journal."""
        self.pieces.extend(pieces)
        self.states.append(state)
        content = [*(self.in_flight[-1].pieces if self.in_flight else ()), *map(dump_piece, pieces)]
        self.in_flight.append(InFlight(content, state.dump(len(content))))

    @property
    def loaded(self) -> list[SampleState]:
        """The states as another process reads them."""
        return [found[0] for found in map(load_state, self.in_flight) if found]
