"""Why nothing is sent at the moment, and when to ask the provider whether that is over.

Two kinds: the account is at fault (401, 403), and the provider fails so often that each further call would only make
another email HELD (5xx in a row). Both end by a sandbox request that passes, which exposes no email.
"""

from enum import StrEnum

from mailstream.domain.attempt import Outcome

UNKNOWN_IN_A_ROW = 5
ACCOUNT_PROBE_SECONDS = 60.0
BREAKER_PROBE_SECONDS = 30.0


class Reason(StrEnum):
    """Why the worker pauses."""

    ACCOUNT_FAULT = "account_fault"  #: the provider refuses our key or account
    PROVIDER_FAILING = "provider_failing"  #: answers prove nothing, several in a row


class CircuitBreaker:
    """Told outcomes and the time (monotonic seconds); says whether to pause and when to probe."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self.detail: str | None = None
        self._unknown = 0
        self._probe_at = 0.0

    def learn(self, outcome: Outcome, detail: str | None, now: float) -> None:
        """Note what a call proved."""
        if outcome is Outcome.ACCOUNT_FAULT:
            self._pause(Reason.ACCOUNT_FAULT, detail, now + ACCOUNT_PROBE_SECONDS)
        elif outcome is Outcome.UNKNOWN:
            self._unknown += 1
            if self._unknown >= UNKNOWN_IN_A_ROW:
                self._pause(Reason.PROVIDER_FAILING, detail, now + BREAKER_PROBE_SECONDS)
        else:
            self._unknown = 0

    def _pause(self, reason: Reason, detail: str | None, probe_at: float) -> None:
        is_worse = reason is Reason.ACCOUNT_FAULT and self.reason is Reason.PROVIDER_FAILING
        if self.reason is None or is_worse:  # other calls that were under way do not move the probe
            self.reason, self.detail, self._probe_at = reason, detail, probe_at

    def change_key(self, now: float) -> None:
        """Another key is in use: ask with it at once, if the account was at fault."""
        if self.reason is Reason.ACCOUNT_FAULT:
            self._probe_at = now

    def probe_in(self, now: float) -> float | None:
        """Seconds until the next probe; None while there is no trouble."""
        return None if self.reason is None else max(0.0, self._probe_at - now)

    def probed(self, *, is_well: bool, now: float) -> None:
        """Note what a probe gave."""
        if is_well:
            self.reason, self.detail, self._unknown = None, None, 0
        elif self.reason is Reason.ACCOUNT_FAULT:
            self._probe_at = now + ACCOUNT_PROBE_SECONDS
        else:
            self._probe_at = now + BREAKER_PROBE_SECONDS
