"""What an answer of the provider proves, and how long a 429 asks us to wait.

The kinds of answer stand here, below the port that returns them, because the core imports no edge.
"""

import email.utils
import re
from dataclasses import dataclass
from typing import assert_never

from mailstream.domain.attempt import Outcome

#: No pause is longer, even if the provider's headers name a later moment.
LONGEST_PAUSE_SECONDS = 300.0
#: Without a usable header: 1, 2, 4 … seconds, at most a minute.
LONGEST_BACK_OFF_SECONDS = 60.0
#: A rate window that ends later than this is no window but a wrong number, milliseconds for example.
_SANE_SECONDS = 86_400.0
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RateHints:
    """Headers of a 429 as they came, unread: ``X-RateLimit-Reset``, ``Retry-After``, ``Date``."""

    reset: str | None = None
    retry_after: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Responded:
    """The provider answered with a whole status line and headers; its code decides, its body only explains."""

    http_status: int
    message_id: str | None = None
    reason: str | None = None  #: the provider's words without addresses and keys; None when it gave none
    is_sandbox: bool = False  #: the request asked for checks only: a 200 is its success
    hints: RateHints | None = None  #: only with a 429


@dataclass(frozen=True, slots=True)
class Withheld:
    """The last gate said no when the connection was ready: no byte left. The claim can be released."""


@dataclass(frozen=True, slots=True)
class _NoAnswer:
    reason: str


class NeverLeft(_NoAnswer):
    """Proof that the provider has not got the request: no connection, or none that took a byte of it."""


class CutOff(_NoAnswer):
    """The connection ended after the first byte of the request may have left, and before an answer."""


class TimedOut(_NoAnswer):
    """The deadline passed after the first byte of the request may have left."""


class Garbled(_NoAnswer):
    """Something came back that is not a HTTP answer. aiohttp calls this a 400; the provider never said so."""


ProviderAnswer = Responded | NeverLeft | Withheld | CutOff | TimedOut | Garbled


def classify(answer: ProviderAnswer) -> Outcome:
    """What an answer proves: what is not named here is UNKNOWN."""
    match answer:
        case Responded(202) | Responded(200, is_sandbox=True):
            return Outcome.ACCEPTED
        case Responded(429) | NeverLeft() | Withheld():
            return Outcome.NOT_ACCEPTED
        case Responded(401 | 403):
            return Outcome.ACCOUNT_FAULT
        case Responded(400 | 404 | 405 | 406 | 413 | 415 | 451):
            return Outcome.REFUSED
        case Responded() | CutOff() | TimedOut() | Garbled():
            return Outcome.UNKNOWN
        case _:
            assert_never(answer)


def pause_seconds(answer: Responded, now: float, *, earlier: int, jitter: float) -> float:
    """Seconds that the account must be left alone after a 429: at least 1, at most 300.

    ``X-RateLimit-Reset`` (seconds since 1970) is read against the answer's own ``Date``, so that a wrong clock
    here does not matter; ``now`` (the same unit) stands in for a missing one. ``Retry-After`` counts when it is
    longer. Without a usable header the pause doubles with the number of ``earlier`` 429 in a row. ``jitter``
    (0 to 1) adds up to a tenth. Never raises: the headers come from outside.
    """
    hints = answer.hints or RateHints()
    sent_at = _http_date(hints.date)
    sent_at = now if sent_at is None else sent_at
    until = (_seconds(hints.reset), _http_date(hints.retry_after))  # Retry-After is a date or seconds (RFC 9110)
    waits = (_seconds(hints.retry_after), *(moment - sent_at for moment in until if moment is not None))
    named = [wait for wait in waits if wait is not None and 0 < wait <= _SANE_SECONDS]
    wait = max(named) if named else min(2.0 ** min(max(earlier, 0), 10), LONGEST_BACK_OFF_SECONDS)
    return min(max(wait, 1.0) * (1 + min(max(jitter, 0.0), 1.0) / 10), LONGEST_PAUSE_SECONDS)


def _seconds(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if _SECONDS.fullmatch(text) else None


def _http_date(text: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text or "").timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        # The parser of the standard library gives up in all these ways; the header comes from outside.
        return None
