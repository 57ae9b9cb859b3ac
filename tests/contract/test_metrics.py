"""Each metric is listed once, documented, and fed with every value of its labels: an alert on one that is not never fires."""

import ast
import re
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, get_args
from unittest.mock import Mock

import pytest

import streams.metrics
from api.metrics import Metrics
from mailstream.domain import codec
from mailstream.domain.attempt import Instead, Outcome
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import TopicsDiffer
from mailstream.domain.event import ProviderEvent
from mailstream.domain.record import Record
from mailstream.domain.request import Lane
from mailstream.domain.status import Status
from mailstream.metrics import Metric, MetricList
from streams.core.claims import Verdict
from streams.core.outcome import ProviderAnswer, Responded, Withheld
from streams.core.schedule import Schedule
from streams.core.trigger_result import TriggerResult
from streams.intake.feedback import Feedback
from streams.maintenance.topics_watch import TopicsWatch
from streams.statuses.queue import Queue
from tests.support.builders import HOME, a_claim, a_hold, a_status, an_event, an_outcome
from tests.support.desk import Desk, turns

ROOT = Path(streams.metrics.__file__).parents[1]
WORKER, API = streams.metrics.LIST, Metrics()
SIDES = [pytest.param(WORKER, "Worker", id="worker"), pytest.param(API, "API", id="api")]


def row(metric: Metric) -> str:
    """The line of a metric in docs/operating.md."""
    labels = [
        f"`{name}`: {values if isinstance(values, str) else ', '.join(values)}"
        for name, values in metric.labels.items()
    ]
    return f"| `{metric.name}` | {metric.kind} | {'; '.join(labels)} | {metric.meaning} |"


@pytest.mark.parametrize(("side", "title"), SIDES)
def test_the_operator_can_read_what_each_metric_means(side: MetricList, title: str) -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    [section] = re.findall(rf"^### {title}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)

    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [row(metric) for metric in side.metrics]


@pytest.mark.parametrize("name", ["rules.yaml", "rules_test.yaml", "dashboard.json"])
def test_alerts_and_dashboard_ask_for_no_value_of_a_label_that_there_is_not(name: str) -> None:
    text = (ROOT / "k8s" / "components" / "prometheus" / name).read_text()
    known = {metric.name: metric.labels for side in (WORKER, API) for metric in side.metrics}
    for metric, label, values in re.findall(r"\b(mailstream_\w+)\{(\w+)=~?\\?\"(.*?)\\?\"", text):
        closed = known.get(metric, {}).get(label, "open")
        assert isinstance(closed, str) or set(values.split("|")) <= set(closed), (metric, label, values)


def test_no_metric_of_the_worker_stands_outside_its_list() -> None:
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in WORKER.registry.collect()
    }
    assert {name for name in shown if name.startswith("mailstream_")} == {metric.name for metric in WORKER.metrics}


@pytest.mark.parametrize(
    ("module", "side"), [("streams", vars(streams.metrics)), ("api", vars(API))], ids=["worker", "api"]
)
def test_each_metric_is_fed(module: str, side: dict[str, object]) -> None:
    source = "".join(path.read_text() for path in (ROOT / module).rglob("*.py"))
    names = [name for name, value in side.items() if type(value).__module__.startswith("prometheus_client.metrics")]

    assert len(names) >= len((WORKER if module == "streams" else API).metrics)
    # told where it is used, or handed to the one that tells it
    told = r"\b{0}\.(labels|inc|set|set_function|observe)\(|\bgauge={0}\b"
    unfed = [name for name in names if not re.search(told.format(name), source)]
    assert not unfed


def value_of(name: str, **labels: str) -> float:
    """What Prometheus would read; a label value that is not shown from the start is an error."""
    found = WORKER.registry.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


def an_event_comes(desk: Desk, value: bytes) -> None:
    """A record of ``email.events`` is read."""
    record = Record(topic="email.events", partition=HOME, offset=0, timestamp_ms=0, key=None, value=value, headers={})
    Feedback(desk.table, desk.projection).handle(record, Mock())


# -- each value of a label comes to be: by what the worker does ---------------------------------------------


CALLED, SENT = [a_claim()], [a_claim(), an_outcome()]
WAYS: dict[Status, list[Any]] = {
    Status.PROCESSING: CALLED,
    Status.HELD: [*CALLED, a_hold()],
    Status.RETRYING: [*CALLED, an_outcome(Outcome.NOT_ACCEPTED)],
    Status.UNCONFIRMED: [*CALLED, a_hold(), a_claim(2, instead=Instead.UNCONFIRMED)],
    Status.CANCELLED: [a_claim(instead=Instead.CANCELLED)],
    Status.EXPIRED: [a_claim(instead=Instead.EXPIRED)],
    Status.SUPPRESSED: [a_claim(instead=Instead.SUPPRESSED)],
    Status.FAILED: [*CALLED, an_outcome(Outcome.REFUSED)],
    Status.SENT: SENT,
    Status.DEFERRED: [*SENT, an_event("deferred")],
    Status.DROPPED: [*SENT, an_event("dropped")],
    Status.BLOCKED: [*SENT, an_event("blocked")],
    Status.DELIVERED: [*SENT, an_event("delivered")],
    Status.BOUNCED: [*SENT, an_event("bounce")],
}


@pytest.mark.parametrize("status", WAYS)
async def test_an_email_is_counted_in_each_status_that_the_log_brings_it_to(status: Status) -> None:
    before = value_of("mailstream_emails_total", status=status)
    desk = Desk()
    desk.knows(a_status())
    for record in WAYS[status]:
        if isinstance(record, ProviderEvent):
            an_event_comes(desk, codec.encode(record))
        else:
            desk.read_back(record)

    assert value_of("mailstream_emails_total", status=status) == before + 1


async def test_an_email_is_counted_in_each_status_that_it_may_begin_with() -> None:
    before = {status: value_of("mailstream_emails_total", status=status) for status in Status}
    desk, begun = Desk(), set(Status) - WAYS.keys()
    for status in begun:
        desk.projection.create(a_status(status), HOME, Mock())

    assert begun == {Status.QUEUED, Status.REJECTED}
    assert all(value_of("mailstream_emails_total", status=status) == before[status] + 1 for status in begun)


async def test_a_record_of_an_attempt_is_counted_by_each_verdict() -> None:
    before = {verdict: value_of("mailstream_attempts_total", result=verdict) for verdict in Verdict}
    desk = Desk()
    status = desk.knows(a_status(Status.QUEUED))
    for record in (
        a_claim(),
        a_claim(),  # known
        a_claim(1, "other"),  # lost
        an_outcome(Outcome.ACCEPTED, 1, "no-winner"),  # void
        a_hold(),
        a_claim(2, "again", possible_duplicate=True),
        an_outcome(),  # of the attempt in doubt
        a_claim(3, "old", order=status.order - 1),  # of a former life
    ):
        desk.read_back(record)
    await turns()

    after = {verdict: value_of("mailstream_attempts_total", result=verdict) for verdict in Verdict}
    assert [verdict for verdict in Verdict if after[verdict] <= before[verdict]] == []


@pytest.mark.parametrize("kind", [*streams.metrics.EVENT_KINDS, "other", "unreadable"])
async def test_an_event_of_each_kind_is_counted(kind: str) -> None:
    before = value_of("mailstream_events_total", event=kind)
    desk = Desk()
    value = b"{" if kind == "unreadable" else codec.encode(an_event("news" if kind == "other" else kind))
    an_event_comes(desk, value)

    assert value_of("mailstream_events_total", event=kind) == before + 1


async def test_each_reason_of_a_pause_is_shown_while_it_lasts() -> None:
    kafka = Mock()
    watch = TopicsWatch(kafka)
    for what, value in ((TopicsDiffer("partitions"), 1), (None, 0)):
        kafka.require_topics.side_effect = what
        await watch.look()
        streams.metrics.clock_looked(400.0, "wrong" if value else None)
        assert value_of("mailstream_paused", reason="topics") == value
        assert value_of("mailstream_paused", reason="clock") == value


def test_each_lane_is_measured() -> None:
    now = 1000.0
    schedule = Mock(spec=Schedule)
    schedule.backlog.return_value = dict.fromkeys(Lane, 7)
    schedule.oldest.return_value = dict.fromkeys(Lane, now - 5)
    Queue(schedule, Mock(), Mock(now=lambda: now)).measure()

    for lane in Lane:
        assert value_of("mailstream_backlog", lane=lane) == 7
        assert value_of("mailstream_oldest_waiting_seconds", lane=lane) == 5


def test_a_call_without_an_answer_is_told_by_one_of_the_words_that_the_list_names() -> None:
    kinds = [
        kind.__name__ for kind in get_args(ProviderAnswer) if kind not in (Responded, Withheld)
    ]  # a status; not counted
    [label] = [metric.labels["code"] for metric in WORKER.metrics if metric.name == "mailstream_provider_seconds"]

    assert label == f"HTTP status, or {', '.join(kinds)}"


# -- or by a place in the code that gives it ----------------------------------------------------------------


@pytest.mark.parametrize("value", [*Reason, *TriggerResult], ids=str)
def test_some_code_gives_each_reason_and_result(value: Enum) -> None:
    assert (type(value).__name__, value.name) in _given()


@pytest.mark.parametrize(("labels", "file"), [
    (("trouble",), "streams/sending/dispatcher.py"),
    (API.metrics[2].labels["result"], "api/routes/events.py"),
], ids=["paused", "webhook_posts"])  # fmt: skip
def test_some_code_counts_each_value(labels: tuple[str, ...], file: str) -> None:
    [*calls] = re.findall(r"\.labels\((.*?)\)\.", (ROOT / file).read_text())
    assert set(re.findall(r'"(\w+)"', " ".join(calls))) == set(labels)


@cache
def _given() -> set[tuple[str, str]]:
    """Members of enums that the code of the worker hands on: those that it only compares with are not among them."""
    found = set()
    for path in (path for folder in ("mailstream", "streams") for path in (ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        asked = (node for node in ast.walk(tree) if isinstance(node, ast.Compare | ast.MatchValue))
        compared = {id(node) for tested in asked for node in ast.walk(tested)}
        found |= {
            (node.value.id, node.attr)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and id(node) not in compared
        }
    return found
