"""All invariants over one history, and the figures to print with it. What each asks is in tests/checker/README.md."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mailstream.domain.attempt import ClaimRecord, OutcomeRecord
from mailstream.domain.request import ControlKind
from mailstream.domain.status import Status, is_final
from tests.checker import calls, causes, due, evidence, gap, keys, lost, order, shown, silence, steps, whole, words
from tests.checker.blows import HARMS
from tests.checker.said import Apart, Finding, Unjudged
from tests.support.history import History, count_answers, count_faults, percentile
from tests.support.history_logs import FaultKind, Result

INVARIANTS: Mapping[str, Callable[[History], Iterator[Finding]]] = {
    "I1": lost.i1_nothing_is_lost,
    "I2": calls.i2_no_unmarked_duplicate,
    "I3": calls.i3_as_often_as_the_caller_chose,
    "I4": shown.i4_no_lies,
    "I5": steps.i5_no_illegal_step,
    "I6": order.i6_order_per_recipient,
    "I7": gap.i7_never_faster_than_the_gap,
    "I8": whole.i8_within_bounds,
    "I9": silence.i9_recovers,
    "I10": whole.i10_audit_agrees,
    "I11": whole.i11_no_secret_leaks,
    "I12": whole.i12_poison_harms_nobody,
    "I13": causes.i13_every_end_has_its_cause,
    "I14": words.i14_words_are_obeyed,
    "I15": keys.i15_one_key_one_email,
    "I16": lost.i16_strict_is_all_or_nothing,
    "I17": evidence.i17_evidence_counts,
    "I18": due.i18_in_its_time,
    "I19": due.i19_lanes_have_their_share,
}


@dataclass(frozen=True)
class Verdict:
    """What was found, and what it was found in."""

    findings: tuple[Finding, ...]
    figures: Mapping[str, object]
    apart: tuple[Finding, ...] = ()  #: explained by a named fault: listed, not counted as broken
    not_judged: Mapping[tuple[str, str], int] = field(default_factory=dict)  #: (invariant, why) → how often

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings

    def __str__(self) -> str:
        lines = [", ".join(f"{name} {_short(value)}" for name, value in self.figures.items())]
        lines += [f"not judged {n}: {name}, {why}" for (name, why), n in sorted(self.not_judged.items())]
        lines += [f"apart: {finding}" for finding in self.apart[:20]]
        lines += [str(finding) for finding in self.findings[:50]]
        if len(self.findings) > 50:
            lines.append(f"… and {len(self.findings) - 50} more")
        return "\n".join(lines)


def _short(value: object) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def judge(history: History) -> Verdict:
    """Check every invariant."""
    said = {name: tuple(check(history)) for name, check in INVARIANTS.items()}
    others = _findings(each for name, all_ in said.items() if name != "I10" for each in all_)
    said["I10"] = tuple(whole.i10_audit_agrees(history, others))  # once more: it must agree with the others
    found = {name: _findings(all_) for name, all_ in said.items()}
    everything = [each for all_ in said.values() for each in all_]
    not_judged = Counter((each.invariant, each.what) for each in everything if isinstance(each, Unjudged))
    return Verdict(
        tuple(finding for findings in found.values() for finding in findings),
        _figures(history, found) | {"not judged": not_judged.total()},
        tuple(each for each in everything if isinstance(each, Apart)),
        not_judged,
    )


def _findings(said: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(each for each in said if not isinstance(each, Apart | Unjudged))


def _figures(history: History, found: Mapping[str, tuple[Finding, ...]]) -> dict[str, object]:
    held = {id_ for id_, all_ in history.statuses.items() if any(s.status is Status.HELD for _, s in all_)}
    ended = {id_ for id_ in held if is_final(history.final[id_].status)}
    accepted = [call for all_ in history.accepted.values() for call in all_]
    marked = sum(call.nonce in history.claims and history.claims[call.nonce].possible_duplicate for call in accepted)
    recovered = [each.seconds for each in silence.recoveries(history) if each.ends is not None]
    return {
        "seed": history.run.seed,
        "commit": history.run.commit or "–",
        "broker": history.run.broker or "–",
        "asked": len(history.asks),
        "unanswered": count_answers(history, Result.INFO),
        "accepted": len(accepted),
        "lost": len(found["I1"]),
        "unfinished": sum(not status.final for status in history.final.values()),
        "unmarked duplicates": len(found["I2"]),
        "marked": marked,
        "lies": len(found["I4"]),
        "illegal steps": len(found["I5"]),
        "ends without cause": len(found["I13"]),
        "order inversions": len(found["I6"]),
        "words": len(history.words),
        "cancels answered 200": sum(w.kind is ControlKind.CANCEL and w.code == 200 for w in history.words),
        "of these accepted": sum(
            w.kind is ControlKind.CANCEL and w.code == 200 and w.id in history.accepted for w in history.words
        ),
        "min gap": gap.smallest_gap(history),
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
    blows = [blow.begins for blow in history.blows if blow.kind in HARMS and blow.kind is not FaultKind.EXIT]
    found = set()
    for id_, all_ in history.attempts.items():
        ends = {r.nonce: record.at for record, r in all_ if isinstance(r, OutcomeRecord)}
        for record, claim in all_:
            if isinstance(claim, ClaimRecord) and not claim.instead:
                end = ends.get(claim.nonce, float("inf"))
                if any(record.at <= blow <= end for blow in blows):
                    found.add(id_)
    return found
