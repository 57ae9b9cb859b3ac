"""Invariants about processes and programs: bounds (I8), the audit (I10), secrets (I11), poison and exits (I12)."""

from collections.abc import Sequence

from mailstream.domain.attempt import ClaimRecord, Outcome, OutcomeRecord
from mailstream.domain.email_id import is_email_id
from tests.checker.blows import Blow
from tests.checker.dead_letters import unjustified
from tests.checker.said import Finding, Said, Unjudged
from tests.support.history import History
from tests.support.history_logs import Fault, FaultKind

NEIGHBOUR_SECONDS = 1.0
#: From a signal, or from the end of what cut it off, until a process that cannot go on has ended and that was seen.
KILLED_SECONDS, STOPPED_SECONDS, GIVES_UP_SECONDS = 5.0, 60.0, 30.0
AT_ONCE_SECONDS = 1.0  #: so soon behind a kill no new process can have taken the dead one's place and ended
_SIGKILL, _SIGTERM = {-9, 137, None}, {0, -15, 143, None}
_CUTS_OFF = frozenset({FaultKind.PAUSE, FaultKind.CUT, FaultKind.BROKER_DOWN, FaultKind.TOPIC_REFUSES})


def i8_within_bounds(history: History) -> Said:
    """Every sampled value stays below its limit."""
    for sample in history.samples:
        limit = history.run.limits.get(sample.what)
        if limit is not None and sample.value > limit:
            yield Finding("I8", sample.process, f"{sample.what} was {sample.value:g}; {limit:g} is the limit")


def i10_audit_agrees(history: History, found: Sequence[Finding] = ()) -> Said:
    """`audit verify` sends nothing, finds nothing of its own, and misses nothing that the topics alone show."""
    for audit in history.audits:
        for id_ in audit.differing:
            yield Finding("I10", id_, "its published status is not the fold of the log")
        known = {finding.about for finding in found} | {*audit.differing}
        is_too_fast = any(finding.invariant == "I7" for finding in found)  # the audit names places, not emails
        for about in audit.found:
            if about in known or (is_too_fast and not is_email_id(about)):
                continue
            yield Finding("I10", about, "is found by the audit, and not by this checker")
        if audit.exit_code and not audit.differing and not audit.found:
            yield Finding("I10", "audit", f"ended with exit code {audit.exit_code}")
        if audit.exit_code == 0 and (audit.found or audit.differing):
            yield Finding("I10", "audit", "ended with exit code 0, with findings")
        calls = sum(audit.started_at <= call.at <= audit.ended_at for call in history.calls)
        if audit.is_system_stopped and calls:
            yield Finding("I10", "audit", f"{calls} provider calls while only the audit ran")
        if audit.is_system_stopped:
            for id_ in sorted(_seen_by_topics(history, found) - {*audit.found, *audit.differing}):
                yield Finding("I10", id_, "breaks a promise in the topics, and the audit did not find it")


def _seen_by_topics(history: History, found: Sequence[Finding]) -> set[str]:
    """Of the findings those that the topics show without ledger and look-ups: lost behind a later one, sent twice."""
    seen = set()
    reached: dict[int, int] = {}
    for asked in (asked for id_, asked in history.requests.items() if id_ in history.statuses):
        for record, _ in asked:
            reached[record.partition] = max(record.offset, reached.get(record.partition, -1))
    for finding in found:
        places = [record for record, _ in history.requests.get(finding.about, ())]
        if finding.invariant == "I1" and any(r.offset < reached.get(r.partition, -1) for r in places):
            seen.add(finding.about)
        if finding.invariant == "I2" and is_email_id(finding.about) and _is_twice(history, finding.about):
            seen.add(finding.about)
    return seen


def _is_twice(history: History, id_: str) -> bool:
    said = [value for _, value in history.attempts.get(id_, ())]
    marked = {claim.nonce for claim in said if isinstance(claim, ClaimRecord) and claim.possible_duplicate}
    accepted = {r.nonce for r in said if isinstance(r, OutcomeRecord) and r.result is Outcome.ACCEPTED}
    return len(accepted) - len(accepted & marked) > 1


def i11_no_secret_leaks(history: History) -> Said:
    """No planted address, key, subject or body stands in a log, trace, metric or error answer."""
    for where, text in history.texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for name, secret in history.canaries.items():
                if secret in line:
                    yield Finding("I11", where, f"line {number} has the planted {name}")


def i12_poison_harms_nobody(history: History) -> Said:
    """Dead letters are planted or invalid, neighbours are not delayed, no process ends without a cause of its own."""
    for poison in history.planted:
        reasons = {reason for _, reason in history.dead_letters.get((poison.partition, poison.offset), ())}
        if reasons != ({poison.reason} if poison.reason else set()):
            what = f"planted as {poison.reason}, found as {', '.join(sorted(reasons)) or 'nothing'}"
            yield Finding("I12", str((poison.partition, poison.offset)), what)
    yield from unjustified(history)
    if history.planted:
        yield from _delayed_neighbours(history, {(poison.partition, poison.offset) for poison in history.planted})
    yield from _exits(history)
    others = sum(not _is_about_requests(r.headers) for r in history.in_log_order("email.rejected"))
    if others:
        yield Unjudged("I12", f"{others} dead letters", "they are of topics that this history does not hold")


def _is_about_requests(headers: dict[str, bytes]) -> bool:
    return headers.get("dlt-original-topic", b"").endswith(b"email.requested")


def _delayed_neighbours(history: History, places: set[tuple[int, int]]) -> Said:
    for id_, asked in history.requests.items():
        record = asked[0][0]
        is_neighbour = {(record.partition, record.offset - 1), (record.partition, record.offset + 1)} & places
        if not is_neighbour or id_ not in history.statuses:
            continue
        first = min(published.at for published, _ in history.statuses[id_])
        is_disturbed = any(
            b.kind is not FaultKind.EXIT and b.overlaps(record.at - GIVES_UP_SECONDS, first) for b in history.blows
        )
        if first - record.at > NEIGHBOUR_SECONDS and not is_disturbed:
            what = f"stands beside a poison record and got its status after {first - record.at:.1f} s"
            yield Finding("I12", id_, what)
        elif is_disturbed:
            yield Unjudged("I12", id_, "a fault hit the neighbours of a poison record")


def _exits(history: History) -> Said:
    """Each exit has a blow of its own: to that process, just before, and of a kind that ends it so."""
    used: set[tuple[int, str]] = set()
    for ended in sorted((f for f in history.faults if f.kind is FaultKind.EXIT), key=lambda f: f.at):
        for number, blow in enumerate(history.blows):
            if (number, ended.target) not in used and _ends_it(blow, ended):
                used.add((number, ended.target))
                break
        else:
            yield Finding("I12", ended.target, f"ended by itself with exit code {ended.code}")


def _ends_it(blow: Blow, ended: Fault) -> bool:
    is_hit = blow.kind is FaultKind.TOPIC_REFUSES or blow.hits(ended.target)
    if blow.begins > ended.at or not is_hit or blow.kind is FaultKind.ALL_DOWN:
        return False
    match blow.kind:
        case FaultKind.KILL:
            seconds = ended.at - blow.begins
            return seconds <= AT_ONCE_SECONDS or (ended.code in _SIGKILL and seconds <= KILLED_SECONDS)
        case FaultKind.STOP:
            return ended.code in _SIGTERM and ended.at - blow.begins <= STOPPED_SECONDS
        case kind:
            return kind in _CUTS_OFF and ended.at <= blow.ends + GIVES_UP_SECONDS
