"""Go through all states of a model, nearest first, until a promise breaks or nothing is new."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, KeysView
from typing import Generic, NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)


class Search(NamedTuple, Generic[State]):
    """What was found."""

    reached: KeysView[State]
    breaks: str | None = None  #: the promise that can be broken
    path: tuple[str, ...] = ()  #: the shortest way there


def search(
    start: State,
    steps: Callable[[State], Iterable[tuple[str, State]]],
    broken: Callable[[State], str | None],
) -> Search[State]:
    """``steps`` gives all that can happen next; ``broken`` names the promise that a state breaks."""
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if what := broken(state):
            return Search(came_from.keys(), what, _path(came_from, state))
        for step, after in steps(state):
            if after not in came_from:
                came_from[after] = (state, step)
                queue.append(after)
    return Search(came_from.keys())


def _path(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    path: list[str] = []
    while (origin := came_from[state]) is not None:
        state, step = origin
        path.append(step)
    return tuple(reversed(path))
