"""What waits, for how long, and how far the intake is behind: the gauges that alerts are made of say what is true."""

import time

import httpx
from prometheus_client.parser import text_string_to_metric_families

from mailstream.request import Lane
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


async def test_the_lag_of_a_partition_is_what_its_worker_has_not_settled(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=NEVER)
    [worker] = system.add_workers(1)
    await system.publish(20)
    await eventually(
        lambda: sum(gauges(worker, "mailstream_backlog", "lane").values()) == 20,
        within_seconds=20,
        waiting_for="the emails",
    )
    lags = gauges(worker, "mailstream_consumer_lag", "partition")
    assert lags == {str(partition): 0 for partition in range(settings.partitions)}
