"""A user-defined rule as a boundary predictor: ``module:callable`` or ``path/to/file.py:callable``.

    def my_rule(text_before: str, units: Sequence[str], final: bool) -> Sequence[float | bool]:
        '''Return P(style) of each unit, in order.'''

A rule that needs to read further before it decides sets ``my_rule.lookahead = n``; it may then
leave out the last ``n`` units, except when ``final`` is true. It runs in its own thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import SupportsFloat

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.callables import UserRule
from tessy.core.errors import ConfigError

_SIGNATURE = "(text_before: str, units: Sequence[str], final: bool) -> Sequence[float | bool]"
_TRIAL = PredictionRequest(
    "trial", "Okay, so 3 + 4 = 7.", (0, 5, 8, 10, 12, 14, 16, 19), final=True
)


class RulePredictor(UserRule):
    """Scores written units by a user-defined function; tests it on one line of text first."""

    sees_next = False

    def __init__(self, spec: str) -> None:
        super().__init__(spec, option="predictor", signature=_SIGNATURE, trial=("", (), False))
        self.lookahead: int = getattr(self._rule, "lookahead", 0)
        if type(self.lookahead) is not int or self.lookahead < 0:
            raise ConfigError(
                f"the rule {spec} has lookahead = {self.lookahead!r}; set a number of units"
            )
        self.scores(_TRIAL)

    async def predict(self, request: PredictionRequest) -> Prediction:
        """Score the units of ``request``.

        Raises:
            ConfigError: The rule failed, or did not return probabilities.
        """
        if len(request.edges) < 2:
            return Prediction(())
        return Prediction(await self._in_thread(self.scores, request))

    def release(self, key: str) -> None:
        """No-op: the rule is stateless."""

    async def aclose(self) -> None:
        """Stop the thread."""
        self.close()

    def scores(self, request: PredictionRequest) -> tuple[UnitScore, ...]:
        """Return the scores of :meth:`predict`, computed in the calling thread."""
        units, final = request.units, request.final
        shown = f"{list(units)!r:.200}"
        before = request.text[: request.edges[0]]
        returned = self._call(before, units, final, shown=f"the units {shown}")
        if isinstance(returned, str | bytes | dict | set) or not isinstance(returned, Iterable):
            raise ConfigError(
                f"the rule {self.name} returned {returned!r:.100}; return a sequence with P(style) "
                "of each unit"
            )
        values = [self._probability(value) for value in returned]
        minimum = len(units) - (0 if final else self.lookahead)
        if not minimum <= len(values) <= len(units):
            raise ConfigError(
                f"the rule {self.name} returned {len(values)} values for {len(units)} units "
                f"{shown} with final={final}; return one for each (a rule that decides "
                "later sets its attribute `lookahead`, which applies unless final is true; "
                f"it is {self.lookahead})"
            )
        return tuple(UnitScore(value, value, value) for value in values)

    def _probability(self, value: object) -> float:
        number = math.nan
        if isinstance(value, SupportsFloat):
            number = float(value)
        if not 0.0 <= number <= 1.0:
            raise ConfigError(
                f"the rule {self.name} returned {value!r:.100} for a unit; return P(style), "
                "a number from 0 to 1, or True and False"
            )
        return number
