"""The table of docs/states.md is what the fold does: each move it names can happen, and no other one can."""

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from mailstream.domain.attempt import AttemptRecord, ClaimRecord, Instead, Outcome
from mailstream.domain.status import EmailStatus, Status
from streams.core import fold
from streams.core.claims import Verdict, doubts
from tests.support.builders import a_claim, a_hold, a_release, a_status, an_event, an_outcome, later

DOC = Path(__file__).parents[4] / "docs/states.md"
#: A third attempt is like the second one, and a fourth brings nothing new.
MOST_ATTEMPTS = 3
EVENTS = ("processed", "deferred", "delivered", "bounce", "blocked", "dropped", "open")
Move = tuple[str, str]


def test_the_table_names_each_move_that_can_happen_and_no_other_one() -> None:
    assert moves_in(DOC.read_text()) == set(moves_of_the_fold())


def test_the_drawing_and_the_table_name_the_same_statuses() -> None:
    text = DOC.read_text()
    drawn = set(re.findall(r"\b[A-Z]{4,}\b", text.split("```")[1]))
    assert {status for status in Status if status in drawn} == set(Status)


def moves_in(text: str) -> set[Move]:
    """Every pair of a row's first two cells; several statuses of a cell are apart by commas."""
    found = set()
    for line in text.splitlines():
        cells = [re.findall(r"`([A-Z]+)`", cell) for cell in line.split("|")[1:3]]
        if len(cells) == 2 and all(cells):
            found |= {(before, after) for before in cells[0] for after in cells[1] if before != after}
    return found


def moves_of_the_fold() -> Iterator[Move]:
    """All that any order of records can do to an email, from its first status on."""
    first = a_status(Status.QUEUED), frozenset[int]()
    seen, waiting = {_seen_as(*first)}, deque([first])
    while waiting:
        before, called = waiting.popleft()
        for node in _after(before, called):
            if node[0].status is not before.status:
                yield before.status.value, node[0].status.value
            if (key := _seen_as(*node)) not in seen:
                seen.add(key)
                waiting.append(node)


def _after(status: EmailStatus, called: frozenset[int]) -> Iterator[tuple[EmailStatus, frozenset[int]]]:
    for claim in _claims(status.attempt + 1):
        verdict, after = fold.attempted(status, claim)
        if verdict is Verdict.WON:
            yield after, called if claim.instead else called | {claim.attempt}
    for word in _words(status, called):
        verdict, after = fold.attempted(status, word)
        if verdict in (Verdict.CLOSED, Verdict.DOUBT_SETTLED):
            yield after, called
    for name in EVENTS:
        yield fold.happened(status, an_event(name)), called


def _claims(attempt: int) -> Iterator[ClaimRecord]:
    if attempt <= MOST_ATTEMPTS:
        for instead in (None, *Instead):
            yield a_claim(attempt, instead=instead, not_before=later(60) if instead is Instead.RESCHEDULED else None)
        yield a_claim(attempt, possible_duplicate=True)


def _words(status: EmailStatus, called: frozenset[int]) -> Iterator[AttemptRecord]:
    """What may be said of calls; an ending that was claimed has no outcome."""
    for attempt in called & {status.attempt, *(doubt.attempt for doubt in doubts(status))}:
        for result in Outcome:
            yield an_outcome(result, attempt, retry_at=later(9))
        yield a_release(attempt)
        yield a_hold(attempt)


def _seen_as(status: EmailStatus, called: frozenset[int]) -> tuple[object, ...]:
    return status.status, status.attempt, status.answered, status.doubt, status.second_doubt, called
