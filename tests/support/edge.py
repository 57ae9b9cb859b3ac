"""When to cancel so that it is open who wins: follows the moment at which both outcomes are as likely."""

import random

#: A caller comes later after each cancel that won, and earlier after each that lost: so it stays at the edge.
STEP_SECONDS, SPREAD_SECONDS = 0.006, 0.01


class Edge:
    """Seconds after the email is due."""

    def __init__(self, dice: random.Random, *, step_seconds: float = STEP_SECONDS) -> None:
        self._dice, self._step = dice, step_seconds
        self._middle = 0.0

    def draw(self) -> float:
        """When to come this time."""
        return self._middle + self._dice.uniform(-SPREAD_SECONDS, SPREAD_SECONDS)

    def learn(self, code: int | None) -> None:
        """What the answer was: 200 or 409."""
        self._middle += {200: self._step, 409: -self._step}.get(code or 0, 0.0)
