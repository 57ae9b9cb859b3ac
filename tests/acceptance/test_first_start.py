"""The first start of all, beside a broker that was formatted a second ago: nothing ends because Kafka is not there yet.

Such a broker makes the topic of the group coordinators when it is first asked for one, and until that is done it answers
NOT_COORDINATOR, or that it is loading.
"""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev.kafka import find
from dev.kafka.node import FOR_TESTS, Node
from dev.ports import free_port
from mailstream.kafka import admin, config
from tests.support import broker
from tests.support.processes import Programs
from tests.support.system import some_settings

#: As a cluster in production has them; one, as elsewhere in the tests, is made in no time.
OFFSETS_PARTITIONS = "50"
KINDS = (("worker", "api"), ("worker",), ("api",))
ROUNDS = int(os.environ.get("FIRST_STARTS", "51"))


@contextmanager
def a_new_broker(home: Path) -> Iterator[str]:
    """Formatted, started, and asked for nothing yet."""
    extra = {**FOR_TESTS, "offsets.topic.num.partitions": OFFSETS_PARTITIONS}
    node = Node(port=free_port(), extra=extra)
    started = find.start(node, home, jars=broker.JARS)
    try:
        yield node.bootstrap
    finally:
        started.close()


@pytest.mark.skipif(not broker.can_start(), reason=find.THREE_WAYS)
@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(1, marks=pytest.mark.timeout(180), id="both together"),
        pytest.param(ROUNDS, marks=[pytest.mark.long, pytest.mark.timeout(3000)], id="many"),
    ],
)
def test_beside_a_new_broker_worker_and_api_become_ready_at_their_first_start(
    programs: Programs, tmp_path: Path, rounds: int
) -> None:
    seconds: dict[str, list[float]] = defaultdict(list)
    emulator = programs.sendgrid(some_settings(""))
    for number in range(rounds):
        kinds = KINDS[number % len(KINDS)]
        with a_new_broker(tmp_path / f"kafka-{number}") as bootstrap:
            settings = some_settings(
                bootstrap, partitions=16, topic_prefix="", sendgrid_url=emulator.url, session_timeout=6
            )
            admin.apply(config.admin(settings), settings)
            begun = time.monotonic()
            starting = [getattr(programs, kind)(settings) for kind in kinds]
            for program in starting:
                program.ready()  # raises when it has ended
            seconds[" and ".join(kinds)].append(time.monotonic() - begun)
            for program in starting:
                assert program.stop(seconds=30) == 0, f"round {number}: {program.last_lines(20)}"
    for kind, each in seconds.items():
        print(
            f"{kind}: {len(each)} of {len(each)} ready after {statistics.median(each):.1f} s, {max(each):.1f} s at most"
        )
