"""One email on its way: what it needs, its claim, its gate, its call, its outcome. One method per step."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from pydantic import SecretStr

from mailstream.clock import Clock, moment
from mailstream.domain.attempt import Instead, Outcome, OutcomeRecord
from mailstream.domain.errors import NotCaughtUp, NotPublished, TemplateError
from mailstream.domain.request import EmailRequest
from mailstream.domain.status import EmailStatus, Status
from mailstream.kafka.bodies import Bodies, BodyGone
from mailstream.settings import Settings
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.core.circuit_breaker import CircuitBreaker
from streams.core.pace import Now, Pace
from streams.core.provider_answer import NeverLeft, ProviderAnswer, Responded, Withheld, classify
from streams.core.retry import Retry, exhausted, retry_after
from streams.failpoints import failpoint
from streams.metrics import seconds_of
from streams.provider.port import Provider
from streams.rendering import Rendering
from streams.sending.digests import Digests, Mail
from streams.sending.gate import Gate
from streams.sending.suppressions import Suppressions
from streams.statuses.claim_log import ClaimLog, Won
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Sending:
    """Everything that happens to one email between the schedule and the log."""

    settings: Settings
    table: StatusTable
    bodies: Bodies
    rendering: Rendering
    suppressions: Suppressions
    groups: CapAndDigestIndex
    digests: Digests
    claim_log: ClaimLog
    pace: Pace
    gate: Gate
    provider: Provider
    breaker: CircuitBreaker
    clock: Clock
    _too_many_in_a_row: int = field(init=False, default=0)
    #: emails that are claimed and not called, and whether a cancel wants them back
    _at_gate: dict[str, bool] = field(init=False, default_factory=dict)
    _dice: random.Random = field(init=False, default_factory=random.SystemRandom)

    async def send(
        self, status: EmailStatus, partition: int, started: Callable[[], None], *, is_barred: Callable[[str], bool]
    ) -> None:
        """Bring one email that is due as far as it goes now; ``started`` is called when its call starts.

        ``is_barred`` is asked right before the claim: its body may have been long in coming, and a control record or a
        rebalance may have come meanwhile. Raises NotPublished, NotCaughtUp: nothing was called.
        """
        if status.status not in (Status.QUEUED, Status.RETRYING, Status.HELD):
            return
        mail = await self._wanted(status)
        if is_barred(status.id):
            return
        if not isinstance(mail, Mail):
            # a HELD email that was to be resent may have been sent: nothing may say that it was not
            instead = Instead.UNCONFIRMED if status.status is Status.HELD else mail[0]
            await self.claim_log.claim(status, partition, instead=instead, reason=mail[1])
            return
        is_resend = status.status is Status.HELD or status.possible_duplicate
        won = await self.claim_log.claim(status, partition, possible_duplicate=is_resend)
        if won is None:
            return
        failpoint("C5", won.id)
        request = await self._joined(won, status, mail)
        if request is None:
            return
        if not self.groups.parts_of(won.id):  # else a cancel would lose the events of others
            self._at_gate[won.id] = False
        try:
            await self._call(won, request, started)
        finally:
            self._at_gate.pop(won.id, None)

    def recall(self, email_id: str) -> bool:
        """Ask for the release of a claim that is not past its gate. False: it is too late."""
        if is_in_time := email_id in self._at_gate:
            self._at_gate[email_id] = True
        return is_in_time

    def use_key(self, key: SecretStr) -> None:
        """Call with this key from now on. Raises WrongSettings: it is not one."""
        self.provider.use_key(key)
        self.breaker.change_key(self.clock.monotonic())

    # -- before the claim ---------------------------------------------------------------------------------

    async def _wanted(self, status: EmailStatus) -> Mail | tuple[Instead, str]:
        """The mail to send, or how and why the email ends without a call. Raises NotCaughtUp."""
        now = self.clock.now()
        if status.expires_at is not None and status.expires_at.timestamp() <= now:
            return Instead.EXPIRED, "its expires_at passed before its turn came"
        if (exhaustion := exhausted(status)) is not None:
            return Instead.FAILED, exhaustion
        try:
            request = await self.bodies.request(status)
            why = self.suppressions.reason(status.tenant, request) or self.groups.over_cap(status, request.cap, now)
            if why is not None:
                return Instead.SUPPRESSED, why
            if request.digest is not None:
                return await self.digests.mail(status, request)
            return Mail(request, await self.rendering.rendered(request))
        except BodyGone as error:
            return Instead.FAILED, f"body_gone: {error}"
        except TemplateError as error:
            return Instead.FAILED, f"template_failed: {error}"

    async def _joined(self, won: Won, status: EmailStatus, mail: Mail) -> EmailRequest | None:
        """What is called for: with every event that ended in this email's favour. None: it was given back."""
        if not mail.joining:
            return mail.request
        try:
            return await self.digests.join(won, status, mail)
        except (NotPublished, NotCaughtUp, BodyGone, TemplateError) as error:
            await self.claim_log.release(won, "its digest was not complete")
            log.warning("a digest is tried again", email=won.id, error=str(error))
            return None

    # -- the call -----------------------------------------------------------------------------------------

    async def _call(self, won: Won, request: EmailRequest, started: Callable[[], None]) -> None:
        mail = self.provider.prepare(request, email_id=won.id, attempt=won.attempt, nonce=won.nonce)
        start: Now | None = None

        async def may_start() -> bool:
            nonlocal start
            start = await self.gate.passed(lambda: self._at_gate.get(won.id, False) or not self._stands(won))
            if start is not None:
                self._at_gate.pop(won.id, None)  # from here on it is too late to give it back
            started()
            failpoint("C6", won.id)
            return start is not None

        answer = await self.provider.send(mail, may_start)
        if isinstance(answer, Withheld):
            why = (
                "the worker stopped, lost the partition, or is paused"
                if self._stands(won)
                else "it was settled meanwhile"
            )
            await self.claim_log.release(won, why)
            return
        ended_at = self.clock.now()
        started_at = start.wall_ns / 1e9 if start is not None else ended_at
        failpoint("C8", won.id)
        code = answer.http_status if isinstance(answer, Responded) else None
        seconds_of(str(code) if code else type(answer).__name__).observe(max(0.0, ended_at - started_at))
        outcome, reason = await self._proof(answer, request)
        retry = self._learn(outcome, answer, won.id, ended_at)
        await self.claim_log.outcome(
            OutcomeRecord(
                id=won.id,
                attempt=won.attempt,
                nonce=won.nonce,
                worker=self.claim_log.worker,
                at=moment(ended_at),
                result=outcome,
                code=code,
                message_id=answer.message_id if isinstance(answer, Responded) else None,
                reason=reason,
                started_at=moment(started_at),
                ended_at=moment(ended_at),
                retry_at=None if retry.at is None else moment(retry.at),
                counts=retry.counts,
                test=mail.is_sandbox,
            ),
            won.partition,
        )
        failpoint("C10", won.id)
        if outcome is not Outcome.ACCEPTED:
            log.info("not sent", email=won.id, attempt=won.attempt, result=outcome, code=code)

    def _stands(self, won: Won) -> bool:
        """Whether the claim still means a call: evidence of an earlier call may come while a marked resend waits."""
        status = self.table.get_status(won.id)
        return status is not None and (status.status, status.nonce) == (Status.PROCESSING, won.nonce)

    # -- after the call -----------------------------------------------------------------------------------

    async def _proof(self, answer: ProviderAnswer, request: EmailRequest) -> tuple[Outcome, str | None]:
        """What the answer proves; a 403 that only concerns this mail's own sender is a refusal."""
        outcome, reason = classify(answer), None if isinstance(answer, Withheld) else answer.reason
        is_forbidden = isinstance(answer, Responded) and answer.http_status == 403
        is_from_other = request.from_ is not None and request.from_.email != self.settings.sender
        if is_forbidden and is_from_other and classify(await self._probed()) is Outcome.ACCEPTED:
            return Outcome.REFUSED, "sender_refused"
        return outcome, reason

    def _learn(self, outcome: Outcome, answer: ProviderAnswer, email_id: str, now: float) -> Retry:
        """Keep what the answer says about the account and the rate, and hand back what it means for the email."""
        before = self.breaker.reason
        self.breaker.learn(outcome, getattr(answer, "reason", None), self.clock.monotonic())
        if self.breaker.reason is not before:
            log.error("nothing is sent until a probe passes", reason=self.breaker.reason, detail=self.breaker.detail)
        status = self.table.get_status(email_id)
        used, delays = status.retries_used if status is not None else 0, self.settings.retry_delays
        earlier, jitter = self._too_many_in_a_row, self._dice.random()
        retry = retry_after(outcome, answer, now=now, used=used, delays=delays, earlier=earlier, jitter=jitter)
        if retry.pause_seconds is not None:
            self._too_many_in_a_row += 1
            self.pace.pause_until(self.clock.monotonic() + retry.pause_seconds)
            log.warning("the provider says: too many requests", seconds=round(retry.pause_seconds, 1))
        elif not isinstance(answer, NeverLeft):
            self._too_many_in_a_row = 0
        return retry

    async def probe(self) -> None:
        """Ask the provider whether the trouble is over, in a turn of its own and without exposing an email."""
        answer = await self._probed()
        if isinstance(answer, Withheld):
            return
        is_well = classify(answer) is Outcome.ACCEPTED
        self.breaker.probed(is_well=is_well, now=self.clock.monotonic())
        log.info("probed the provider", is_well=is_well)

    async def _probed(self) -> ProviderAnswer:
        """What a probe gives. It takes a turn as a mail does: connected first, past the gate right before its first byte."""

        async def may_start() -> bool:
            return await self.gate.passed(lambda: False) is not None

        return await self.provider.probe(may_start) if await self.gate.is_near() else Withheld()
