"""What waits, for how long, and how far the intake is behind: the gauges that alerts are made of say what is true."""

import time

import httpx
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from prometheus_client.parser import text_string_to_metric_families

from mailstream.domain import topics
from mailstream.domain.request import Lane
from mailstream.domain.topics import Naming
from mailstream.kafka import config
from mailstream.kafka.producer import MAX_RECORD_BYTES
from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem
from tests.support.processes import Program, Programs

NEVER = 3600.0  #: seconds of a gap in which nothing is sent while a test lasts


def gauges(worker: Program, name: str, label: str) -> dict[str, float]:
    """The values of a gauge by its label."""
    text = httpx.get(f"{worker.url}/metrics", timeout=5).text
    [family] = [family for family in text_string_to_metric_families(text) if family.name == name]
    return {sample.labels[label]: sample.value for sample in family.samples}


async def test_the_gauges_tell_what_waits_in_each_lane_and_since_when(programs: Programs, settings: Settings) -> None:
    system = MailSystem(programs, settings, send_gap=NEVER)
    [worker] = system.add_workers(1)
    asked_at = time.time()
    await system.publish(3)
    await system.publish(2, lane=Lane.BULK)

    await eventually(
        lambda: gauges(worker, "mailstream_backlog", "lane") == {"critical": 0, "normal": 3, "bulk": 2},
        within_seconds=20,
        waiting_for="the five emails",
    )
    oldest = gauges(worker, "mailstream_oldest_waiting_seconds", "lane")
    assert 0 < oldest["normal"] <= time.time() - asked_at
    assert 0 < oldest["bulk"] <= oldest["normal"]
    assert oldest["critical"] == 0


async def test_the_lag_is_what_the_workers_could_not_settle_and_goes_when_they_can(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=NEVER)
    [worker] = system.add_workers(1)
    _let_statuses_have(system.settings, 100)  # bytes: none is that small, so no request can be acked
    await system.publish(20)

    def lag() -> float:
        return sum(gauges(worker, "mailstream_consumer_lag", "partition").values())

    await eventually(lambda: lag() == 20, within_seconds=20, waiting_for="the lag")
    _let_statuses_have(system.settings, MAX_RECORD_BYTES)
    await eventually(lambda: lag() == 0, within_seconds=20, waiting_for="its end")
    assert sum(gauges(worker, "mailstream_backlog", "lane").values()) == 20


def _let_statuses_have(settings: Settings, size: int) -> None:
    """Let the broker take no status of more bytes."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    name = Naming(settings.topic_prefix).of(topics.STATUS)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    config.admin(settings).incremental_alter_configs([resource])[resource].result(10)
