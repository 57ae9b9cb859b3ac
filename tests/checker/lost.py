"""I1: nothing is lost. I16: a strict batch is all or nothing."""

from collections import defaultdict

from mailstream.domain.request import Batch
from mailstream.domain.status import Status
from tests.checker.dead_letters import second_bodies, wrongly_lost
from tests.checker.said import Finding, Said, Unjudged
from tests.support.history import History
from tests.support.history_logs import Ask, Result


def i1_nothing_is_lost(history: History) -> Said:
    """All that got a 202 has a status; all else that stands in ``email.requested`` has one, or a dead letter with cause."""
    promised = history.promised
    for id_ in sorted(promised.keys() - history.requests.keys() - history.statuses.keys()):
        yield Finding("I1", id_, "was answered with 202, and no record asks for it")
    for ask in history.asks:
        is_durable = ask.result is Result.OK and ask.by in ("kafka", "trigger") and ask.id is not None
        if is_durable and ask.id not in history.requests and ask.id not in history.statuses:
            yield Finding("I1", ask.id or "", f"was taken by Kafka (by {ask.by}), and no record asks for it")
    wrong, refused = wrongly_lost(history), second_bodies(history)
    for id_, asked in history.requests.items():
        if id_ in history.statuses or (id_ not in promised and {record.place for record, _ in asked} <= refused):
            continue
        places = {(record.partition, record.offset) for record, _ in asked}
        is_rejected = places <= history.dead_letters.keys() and not places & wrong
        if id_ in promised:
            yield Finding("I1", id_, f"was answered with 202, stands at {asked[0][0].place[1:]}, and has no status")
        elif not is_rejected:
            yield Finding("I1", id_, f"stands in email.requested at {asked[0][0].place[1:]}, and has no status")
    for ask in history.asks:
        if ask.result is Result.INFO and ask.id is None:
            yield Unjudged("I1", "an ask", "no answer came, so nothing was promised and no id is known")


def i16_strict_is_all_or_nothing(history: History) -> Said:
    """Of a strict batch all items are taken or none is: in the answer, in the log, and in what becomes of them."""
    answers: dict[str, list[Ask]] = defaultdict(list)
    for ask in history.asks:
        if ask.mode == "strict" and ask.batch is not None:
            answers[ask.batch].append(ask)
    for name, asks in sorted(answers.items()):
        if len({(ask.result, ask.code) for ask in asks}) > 1:
            taken = sum(ask.code == 202 for ask in asks)
            yield Finding("I16", name, f"{taken} of {len(asks)} items of a strict batch were answered with 202")
        known = {ask.id for ask in asks if ask.id is not None}
        there = {id_ for id_ in known if id_ in history.statuses or id_ in history.requests}
        if there and there != known:
            yield Finding("I16", name, f"{len(there)} of {len(known)} items of a strict batch are in the log")
        yield from _same_fate(history, name, known)
    for record in history.in_log_order("email.requested"):
        if isinstance(record.value, Batch):
            ids = {id_ for id_, _ in history.asked_in(record) if id_ is not None}
            yield from _same_fate(history, record.value.id or str(record.place[1:]), ids)


def _same_fate(history: History, name: str, ids: set[str]) -> Said:
    shown = {id_ for id_ in ids if id_ in history.statuses}
    refused = {id_ for id_ in shown if history.final[id_].status is Status.REJECTED}
    taken = shown - refused
    if taken and taken != ids:
        yield Finding(
            "I16", name, f"{len(taken)} of {len(ids)} items of a strict batch were taken, the others were not"
        )
