"""All invariants over one history, and the figures to print with it (guarantees §8)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mailstream.attempt import ClaimRecord, OutcomeRecord
from mailstream.status import Status, is_final
from tests.support import history_emails as emails
from tests.support import history_run as whole
from tests.support.history import Finding, History, count_answers, count_faults, percentile
from tests.support.history_logs import FaultKind, Result

INVARIANTS: Mapping[str, Callable[[History], Iterator[Finding]]] = {
    "I1": emails.i1_nothing_is_lost,
    "I2": emails.i2_no_unmarked_duplicate,
    "I3": emails.i3_as_often_as_the_caller_chose,
    "I4": emails.i4_no_lies,
    "I5": emails.i5_no_illegal_step,
    "I6": emails.i6_order_per_recipient,
    "I7": whole.i7_never_faster_than_the_gap,
    "I8": whole.i8_within_bounds,
    "I9": whole.i9_recovers,
    "I10": emails.i10_audit_agrees,
    "I11": whole.i11_no_secret_leaks,
    "I12": whole.i12_poison_harms_nobody,
}


@dataclass(frozen=True)
class Verdict:
    """What was found, and what it was found in."""

    findings: tuple[Finding, ...]
    figures: Mapping[str, object]
    apart: tuple[Finding, ...] = ()  #: explained, listed, not counted

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings

    def __str__(self) -> str:
        lines = [", ".join(f"{name} {_short(value)}" for name, value in self.figures.items())]
        lines += [f"apart: {finding}" for finding in self.apart[:20]]
        lines += [str(finding) for finding in self.findings[:50]]
        if len(self.findings) > 50:
            lines.append(f"… and {len(self.findings) - 50} more")
        return "\n".join(lines)


def _short(value: object) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def judge(history: History) -> Verdict:
    """Check every invariant."""
    found = {name: tuple(check(history)) for name, check in INVARIANTS.items()}
    apart = (*emails.inversions_apart(history), *whole.gaps_apart(history))
    findings = tuple(finding for findings in found.values() for finding in findings)
    return Verdict(findings, _figures(history, found), apart)


def _figures(history: History, found: Mapping[str, tuple[Finding, ...]]) -> dict[str, object]:
    held = {id_ for id_, all_ in history.statuses.items() if any(s.status is Status.HELD for _, s in all_)}
    ended = {id_ for id_ in held if is_final(history.final[id_].status)}
    accepted = [call for calls in history.accepted.values() for call in calls]
    marked = sum(call.nonce in history.claims and history.claims[call.nonce].possible_duplicate for call in accepted)
    recovered = [seconds for _, seconds in whole.recoveries(history) if seconds is not None]
    return {
        "seed": history.run.seed,
        "commit": history.run.commit or "–",
        "broker": history.run.broker or "–",
        "asked": len(history.asks),
        "unanswered": count_answers(history, Result.INFO),
        "accepted": len(accepted),
        "lost": len(found["I1"]),
        "unfinished": len(emails.unfinished(history)),
        "unmarked duplicates": len(found["I2"]),
        "marked": marked,
        "lies": len(found["I4"]),
        "illegal steps": len(found["I5"]),
        "order inversions": len(found["I6"]),
        "min gap": whole.smallest_gap(history),
        "held": len(held),
        "held resolved": len([id_ for id_ in ended if history.final[id_].status is not Status.UNCONFIRMED]),
        "p99 recovery": percentile(recovered, 0.99),
        "longest recovery": max(recovered, default=None),
        "exposed": len(exposed(history)),
        "kills": count_faults(history, FaultKind.KILL),
        "pauses": count_faults(history, FaultKind.PAUSE),
        "broker restarts": count_faults(history, FaultKind.BROKER_UP),
    }


def exposed(history: History) -> set[str]:
    """Emails in flight at a fault: claimed before it, their outcome recorded after it or never.

    Zero failures among n of them bound the rate of failures at 3/n.
    """
    blows = [
        f.at
        for f in history.faults
        if f.kind in (FaultKind.KILL, FaultKind.PAUSE, FaultKind.CUT, FaultKind.BROKER_DOWN)
    ]
    found = set()
    for id_, all_ in history.attempts.items():
        ends = {r.nonce: record.at for record, r in all_ if isinstance(r, OutcomeRecord)}
        for record, claim in all_:
            if isinstance(claim, ClaimRecord) and not claim.instead:
                end = ends.get(claim.nonce, float("inf"))
                if any(record.at <= blow <= end for blow in blows):
                    found.add(id_)
    return found
