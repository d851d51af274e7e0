"""A user-defined rule as a boundary predictor: ``module:callable`` or ``path/to/file.py:callable``.

    def my_rule(text_before: str, units: Sequence[str], final: bool) -> Sequence[float | bool]:
        '''Return P(style) of each unit, in order.'''

A rule that needs to read further before it decides sets ``my_rule.lookahead = n``; it may then
leave out the last ``n`` units, except when ``final`` is true. It runs in its own thread.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import SupportsFloat

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.callables import check_signature, load_callable
from tessy.core.errors import ConfigError

Rule = Callable[[str, Sequence[str], bool], Sequence[float | bool]]
_SIGNATURE = "(text_before: str, units: Sequence[str], final: bool) -> Sequence[float | bool]"
_TRIAL = PredictionRequest(
    "trial", "Okay, so 3 + 4 = 7.", (0, 5, 8, 10, 12, 14, 16, 19), final=True
)


class RulePredictor:
    """Scores written units by a user-defined function."""

    sees_next = False

    def __init__(self, rule: Rule, *, name: str) -> None:
        self.name = name
        self._rule = rule
        self.lookahead: int = getattr(rule, "lookahead", 0)
        if type(self.lookahead) is not int or self.lookahead < 0:
            raise ConfigError(
                f"the rule {name} has lookahead = {self.lookahead!r}; set a number of units"
            )
        check_signature(rule, name, ("", (), False), _SIGNATURE)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tessy-rule")

    @classmethod
    def load(cls, spec: str) -> RulePredictor:
        """Import the rule ``spec`` names, and test it on one line of text."""
        rule = load_callable(spec, option="predictor", signature=_SIGNATURE)
        predictor = cls(rule, name=spec)
        predictor.scores(_TRIAL)
        return predictor

    async def predict(self, request: PredictionRequest) -> Prediction:
        """Score the units of ``request``.

        Raises:
            ConfigError: The rule failed, or did not return probabilities.
        """
        if len(request.edges) < 2:
            return Prediction(())
        loop = asyncio.get_running_loop()
        return Prediction(await loop.run_in_executor(self._thread, self.scores, request))

    def release(self, key: str) -> None:
        """No-op: the rule is stateless."""

    async def aclose(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def scores(self, request: PredictionRequest) -> tuple[UnitScore, ...]:
        """Return the scores of :meth:`predict`, computed in the calling thread."""
        units = request.units
        try:
            returned = self._rule(request.text[: request.edges[0]], units, request.final)
        except Exception as error:
            raise ConfigError(
                f"the rule {self.name} raised {type(error).__name__}: {error}, for the units "
                f"{_shown(units)}; fix the rule"
            ) from error
        return self._validate(returned, units, final=request.final)

    def _validate(
        self, returned: object, units: Sequence[str], *, final: bool
    ) -> tuple[UnitScore, ...]:
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
                f"{_shown(units)} with final={final}; return one for each (a rule that decides "
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


def _shown(units: Sequence[str]) -> str:
    return f"{list(units)!r:.200}"
