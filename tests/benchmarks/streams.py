"""Five hundred listeners to one email's events: how soon all of them have heard a change, and what that costs the API.

`python -m tests.benchmarks.streams [listeners]`: a table on stderr, JSON on stdout.
"""

import asyncio
import json
import statistics
import sys
import time
import uuid
from typing import Any

from mailstream.domain.status import Fact
from mailstream.settings import Settings
from tests.benchmarks.api_process import KEY, ApiProcess
from tests.benchmarks.machine import machine
from tests.support.api import Worker, a_status
from tests.support.system import some_settings, topics_of

LISTENERS, CHANGES = 500, 100
PAUSE_SECONDS = 0.05  #: between two changes


def main(listeners: int) -> None:
    """Run and print."""
    bootstrap = Settings().kafka_bootstrap
    settings = some_settings(bootstrap, topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.")
    with topics_of(settings), ApiProcess(settings) as api:
        figures = asyncio.run(_measure(settings, api, listeners))
    print("\n".join(f"{name:28} {value}" for name, value in figures.items()), file=sys.stderr)
    print(json.dumps({"machine": machine(bootstrap), **figures}, indent=1))


async def _measure(settings: Settings, api: ApiProcess, listeners: int) -> dict[str, Any]:
    id_ = api.ask('{"to": "user@example.com", "subject": "Hello", "text": "Hello there"}')
    worker, facts = Worker(settings), list(a_status(id_).timeline)
    before = api.rss_mib()
    heard: dict[int, list[float]] = {number: [] for number in range(CHANGES)}
    open_ = [asyncio.create_task(_listen(api.port, id_, heard)) for _ in range(listeners)]
    await asyncio.sleep(2)
    grown, cpu = api.rss_mib() - before, api.cpu_seconds()
    told: list[float] = []
    for number in range(CHANGES):
        facts.append(Fact(at=facts[0].at, what=f"fact-{number}-"))
        told.append(time.perf_counter())
        await worker.publish(a_status(id_, timeline=tuple(facts), control=number))
        await asyncio.sleep(PAUSE_SECONDS)
    async with asyncio.timeout(60):
        await asyncio.gather(*open_)
    cpu = api.cpu_seconds() - cpu
    await worker.close()
    assert all(len(times) == listeners for times in heard.values()), "somebody did not hear all"
    last = sorted(max(heard[number]) - told[number] for number in range(CHANGES))
    return {
        "listeners": listeners,
        "changes": CHANGES,
        "events_heard": listeners * CHANGES,
        "all_heard_ms_p50": round(statistics.median(last) * 1000, 1),
        "all_heard_ms_p99": round(last[int(CHANGES * 0.99) - 1] * 1000, 1),
        "cpu_us_per_event": round(cpu / (listeners * CHANGES) * 1e6, 1),
        "rss_kib_per_listener": round(grown * 1024 / listeners, 1),
    }


async def _listen(port: int, id_: str, heard: dict[int, list[float]]) -> None:
    """Note when each change was heard, until the last one was."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "".join(f"{name}: {value}\r\n" for name, value in KEY.items())
    writer.write(f"GET /v1/emails/{id_}/events HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode())
    while True:
        line = await reader.readline()
        assert line, "the stream ended"
        if (at := line.find(b"fact-")) >= 0:
            number = int(line[at + 5 : line.index(b"-", at + 5)])
            heard[number].append(time.perf_counter())
            if number == CHANGES - 1:
                writer.close()
                return


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else LISTENERS)
