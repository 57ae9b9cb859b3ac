"""Make histories by hand: a scene that is played clean, and in which a test changes what it is about."""

from collections import Counter
from typing import Any

from msgspec import structs

from dev.sendgrid.ledger import Call
from mailstream.clock import moment
from mailstream.domain import email_id, topics
from mailstream.domain.attempt import (
    AttemptRecord,
    ClaimRecord,
    HeldRecord,
    Instead,
    Outcome,
    OutcomeRecord,
    ReleasedRecord,
)
from mailstream.domain.event import ProviderEvent
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.request import Address, Batch, Control, ControlKind, EmailRequest, OnAmbiguous
from mailstream.domain.status import Coordinates, EmailStatus, Fact, with_fact
from streams.core import fold
from tests.support.history import History, Run
from tests.support.history_logs import Ask, Fault, FaultKind, Lookup, Record, Result, Word

PARTITIONS = 4
START = 1_795_000_000.0  #: seconds since 1970 at second 0 of a scene
WORKER = "worker-0/a1"
GAP = 2.0


class Scene:
    """The five logs as they grow. Times are seconds since the scene began."""

    def __init__(self, run: Run | None = None) -> None:
        self.run = run or Run(gap_seconds=GAP)
        self.asks: list[Ask] = []
        self.words: list[Word] = []
        self.calls: list[Call] = []
        self.records: list[Record] = []
        self.lookups: list[Lookup] = []
        self.faults: list[Fault] = []
        self.known: dict[str, EmailStatus] = {}
        self._offsets: Counter[tuple[str, int]] = Counter()
        self._nonces = 0

    def ask(self, address: str = "ada@example.com", *, at: float, **more: Any) -> str:
        """A client asks, gets 202; the request stands in the log, and the owner publishes QUEUED."""
        id_ = email_id.new(canonical(address))
        self.asks.append(Ask(START + at, Result.OK, 202, id_, START + at + 0.01))
        request = EmailRequest(to=Address(address), id=id_, subject="Hello", text="…", tenant="t", **more)
        self.take(request, at=at)
        return id_

    def batch(self, *addresses: str, at: float, name: str = "", **more: Any) -> list[str]:
        """A client asks for a strict batch, gets 202; it is unfolded, and each owner publishes QUEUED."""
        ids = [email_id.new(canonical(address)) for address in addresses]
        items = tuple(
            EmailRequest(to=Address(address), id=id_, subject="Hello", text="…", tenant="t", **more)
            for address, id_ in zip(addresses, ids, strict=True)
        )
        answered = f"batch-{len(self.asks)}"
        for n, id_ in enumerate(ids):
            answer = Ask(START + at, Result.OK, 202, id_, START + at + 0.01, batch=answered, item=n, mode="strict")
            self.asks.append(answer)
        self.append(topics.REQUESTED.name, 0, at, Batch(items=items, id=name or answered, tenant="t"))
        for request in items:
            self.take(request, at=at + 0.02)
        return ids

    def take(self, request: EmailRequest, *, at: float) -> Record:
        """The request stands in the log, and the owner publishes QUEUED."""
        assert request.id is not None
        recipient = canonical(request.to.email)
        record = self.append(topics.REQUESTED.name, self.partition_of(request.id), at, request)
        queued = fold.queued(
            request,
            email_id=request.id,
            recipient=f"{recipient_hash(recipient):08x}",
            place=Coordinates(record.partition, record.offset),
            at=moment(START + at),
            on_ambiguous=OnAmbiguous.HOLD,
            writer=WORKER,
        )
        self.publish(queued, at=at + 0.02)
        return record

    def control(self, id_: str, kind: ControlKind, *, at: float, **more: Any) -> Record:
        """A word about the email stands in the log."""
        control = Control(kind=kind, id=id_, by="ada", tenant="t", **more)
        return self.append(topics.REQUESTED.name, self.partition_of(id_), at, control)

    def refuse(self, control: Record, what: str, *, at: float) -> None:
        """The owner publishes that a word was refused, or ordered."""
        status = self.known[control.value.id]
        fact = Fact(at=moment(START + at), what=what, detail="in_doubt", control=control.offset)
        self.publish(with_fact(status, fact, control=control.offset), at=at)

    def event(self, id_: str, event: str, *, at: float) -> None:
        """The provider's webhook tells something, and the owner publishes what it means."""
        said = ProviderEvent(event=event, at=moment(START + at), id=id_, dedupe=f"{event} {at}")
        self.append(topics.EVENTS.name, self.partition_of(id_), at, said)
        after = fold.happened(self.known[id_], said)
        if after is not self.known[id_]:
            self.publish(after, at=at + 0.001)

    def claim(self, id_: str, *, at: float, worker: str = WORKER, **more: Any) -> ClaimRecord:
        """The next attempt is claimed, and won unless the log forbids it."""
        self._nonces += 1
        known = self.known[id_]
        about = self._about(id_, known.attempt + 1, f"n{self._nonces}", at, worker)
        claim = ClaimRecord(**about, order=known.order, **more)
        self.note(claim, at=at)
        return claim

    def call(self, claim: ClaimRecord, *, at: float, accepted: bool = True, answer: str = "202") -> Call:
        """The provider gets the call of a claim."""
        monotonic_ns = int((1000 + at) * 1e9)
        call = Call(
            seq=len(self.calls) + 1,
            is_accepted=accepted,
            answer=answer,
            monotonic_ns=monotonic_ns,
            at=START + at,
            id=claim.id,
            attempt=claim.attempt,
            nonce=claim.nonce,
        )
        self.calls.append(call)
        return call

    def outcome(self, claim: ClaimRecord, result: Outcome, *, started: float, at: float) -> None:
        """The caller records what the answer proved."""
        about = self._about(claim.id, claim.attempt, claim.nonce, at, claim.worker)
        self.note(OutcomeRecord(**about, result=result, started_at=moment(START + started)), at=at)

    def release(self, claim: ClaimRecord, *, at: float) -> None:
        """Claimed, certainly not called."""
        self.note(ReleasedRecord(**self._about(claim.id, claim.attempt, claim.nonce, at, claim.worker)), at=at)

    def hold(self, claim: ClaimRecord, *, at: float, worker: str = "worker-1/b1") -> None:
        """A new owner finds the claim of one that is gone."""
        self.note(HeldRecord(**self._about(claim.id, claim.attempt, claim.nonce, at, worker)), at=at)

    def send(self, id_: str, *, at: float, worker: str = WORKER, **claim: Any) -> Call:
        """Claim, call, 202, outcome."""
        claimed = self.claim(id_, at=at - 0.01, worker=worker, **claim)
        call = self.call(claimed, at=at)
        self.outcome(claimed, Outcome.ACCEPTED, started=at, at=at + 0.05)
        return call

    def end(self, id_: str, instead: Instead, *, at: float, **more: Any) -> None:
        """An ending is claimed; what it needs before it is the test's to write."""
        self.claim(id_, at=at, instead=instead, **more)

    def note(self, record: AttemptRecord, *, at: float) -> None:
        """A record goes to ``email.attempts``; the owner publishes what it means."""
        self.append(topics.ATTEMPTS.name, self.partition_of(record.id), at, record)
        _, after = fold.attempted(self.known[record.id], record)
        if after is not self.known[record.id]:
            self.publish(structs.replace(after, writer=record.worker), at=at + 0.001)

    def publish(self, status: EmailStatus, *, at: float) -> None:
        """A record of ``email.status``."""
        self.known[status.id] = status
        self.append(topics.STATUS.name, self.partition_of(status.id), at, status)

    def look_up(self, id_: str, *, at: float, code: int = 200, replica: str = "api-0") -> None:
        """A client asks where the email stands, and is told what is published."""
        status = self.known.get(id_) if code == 200 else None
        rank = status.rank if status else None
        self.lookups.append(Lookup(START + at, id_, code, status.status if status else None, rank, replica))

    def fault(self, kind: FaultKind, target: str = "worker-0", *, at: float, code: int | None = None) -> None:
        """The nemesis strikes."""
        self.faults.append(Fault(START + at, kind, target, code))

    def append(self, topic: str, partition: int, at: float, value: Any, **headers: bytes) -> Record:
        """Any record of any topic."""
        offset = self._offsets[topic, partition]
        self._offsets[topic, partition] += 1
        named = {name.replace("_", "-"): content for name, content in headers.items()}
        record = Record(topic, partition, offset, START + at, value, headers=named)
        self.records.append(record)
        return record

    def dead_letter(self, poison: Record, reason: str, *, at: float) -> None:
        """The bytes of a record that nobody can take, and why."""
        self.append(
            topics.REJECTED.name,
            poison.partition,
            at,
            poison.value,
            dlt_original_topic=poison.topic.encode(),
            dlt_original_partition=str(poison.partition).encode(),
            dlt_original_offset=str(poison.offset).encode(),
            dlt_original_timestamp=b"0",
            mailstream_reason=reason.encode(),
        )

    def cancel(self, id_: str, *, at: float) -> None:
        """A client withdraws the email and gets 200: the word stands in the log, and its ending is claimed."""
        control = self.control(id_, ControlKind.CANCEL, at=at - 0.05)
        self.end(id_, Instead.CANCELLED, at=at, control=control.offset)
        self.words.append(Word(START + at - 0.06, START + at + 0.01, ControlKind.CANCEL, id_, Result.OK, 200))

    def end_of(self, topic: str, partition: int) -> int:
        """The offset that the next record gets."""
        return self._offsets[topic, partition]

    def partition_of(self, id_: str) -> int:
        """Where the records of the email are."""
        return email_id.partition_in(id_, PARTITIONS)

    def history(self, **more: Any) -> History:
        """What came of it."""
        logs: dict[str, Any] = {
            "asks": self.asks,
            "words": self.words,
            "calls": self.calls,
            "records": self.records,
            "lookups": self.lookups,
            "faults": self.faults,
        }
        return History(run=self.run, **(logs | more))

    @staticmethod
    def _about(id_: str, attempt: int, nonce: str, at: float, worker: str) -> dict[str, Any]:
        return {"id": id_, "attempt": attempt, "nonce": nonce, "at": moment(START + at), "worker": worker}


def a_clean_scene() -> Scene:
    """Three emails sent a gap apart, one cancelled, one refused, one that is held and resolved; looked up by clients."""
    scene = Scene()
    ada, bob, cleo, cancelled, refused, held = (
        scene.ask(f"{name}@example.com", at=n / 10)
        for n, name in enumerate(("ada", "bob", "cleo", "dora", "emil", "fay"))
    )
    scene.send(ada, at=1)
    scene.send(bob, at=3)
    scene.send(cleo, at=5)
    scene.cancel(cancelled, at=6)
    claim = scene.claim(refused, at=6.9)
    scene.call(claim, at=7, accepted=False, answer="400")
    scene.outcome(claim, Outcome.REFUSED, started=7, at=7.1)
    claim = scene.claim(held, at=8.9)
    scene.call(claim, at=9, answer="reset")
    scene.hold(claim, at=30)
    scene.outcome(claim, Outcome.ACCEPTED, started=9, at=31)
    for id_ in (ada, bob, cleo, cancelled, refused, held):
        scene.look_up(id_, at=40)
    return scene
