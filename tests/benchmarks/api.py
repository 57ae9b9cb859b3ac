"""How fast the API accepts and answers, on one core: `python -m tests.benchmarks.api`.

Needs a Kafka (MAILSTREAM_KAFKA_BOOTSTRAP). The client is a process of its own; the rate is told for each CPU-second of
the API, so that it does not depend on what else the machine does.
"""

import json
import os
import platform
import sys
import uuid
from importlib.metadata import version
from typing import Any

from mailstream.log.client import admin
from mailstream.settings import Settings
from tests.benchmarks.api_process import ApiProcess
from tests.support.system import topics_of

BODY = json.dumps(
    {
        "to": {"email": "userNUMBER@example.com", "name": "Ada"},
        "subject": "Your order has left",
        "text": "x" * 500,
        "html": "y" * 1500,
        "reference": "order-NUMBER",
        "tags": ["order"],
    }
)
#: Mode, items of a batch, batches of that size.
BATCHES = (("strict", 100, 200), ("strict", 1000, 30), ("permissive", 100, 200), ("permissive", 1000, 30))


def main() -> None:
    """Run all rows; a table on stderr, JSON on stdout."""
    settings = Settings(topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.", partitions=8, dev=True)
    with topics_of(settings), ApiProcess(settings) as api:
        print(f"idle: {api.rss_mib():.0f} MiB", file=sys.stderr)
        idle = api.rss_mib()
        rows = []
        api.measure("warm-up", 32, 2000, "POST", ["/v1/emails"], BODY)
        for connections, requests in ((1, 3000), (32, 10_000), (128, 10_000)):
            rows.append(api.measure("accept", connections, requests, "POST", ["/v1/emails"], BODY))
        rows.append(
            api.measure("accept with a key", 32, 5000, "POST", ["/v1/emails"], BODY, {"Idempotency-Key": "k-NUMBER"})
        )
        for mode, items, batches in BATCHES:
            body = _batch(mode, items)
            api.measure("warm-up", 2, 4, "POST", ["/v1/emails/batch"], body, emails=items)
            name = f"batch, {mode}, {items} items"
            rows.append(api.measure(name, 2, batches, "POST", ["/v1/emails/batch"], body, emails=items))
        ids = [api.ask(BODY.replace("NUMBER", str(number))) for number in range(200)]
        paths = [f"/v1/emails/{each}" for each in ids]
        for connections, requests in ((1, 3000), (32, 20_000)):
            rows.append(api.measure("lookup", connections, requests, "GET", paths, None))
        misses = [f"/v1/emails/{each[:12]}{uuid.uuid4().hex}" for each in ids]
        rows.append(api.measure("lookup, a miss", 1, 300, "GET", misses, None))
        rows.append(api.measure("healthz", 32, 20_000, "GET", ["/healthz"], None))
        figures = {"machine": _machine(settings), "idle_rss_mib": idle, "rss_mib": api.rss_mib(), "rows": rows}
    print(json.dumps(figures, indent=1))


def _batch(mode: str, items: int) -> str:
    """A body of a batch; 1,000 items of it are below what a strict batch may have as one record."""
    asked = [
        {
            "to": f"user{number}-NUMBER@example.com",
            "subject": "Your order has left",
            "text": "x" * 300,
            "reference": f"order-NUMBER-{number}",
        }
        for number in range(items)
    ]
    return json.dumps({"mode": mode, "items": asked})


def _machine(settings: Settings) -> dict[str, Any]:
    brokers = admin(settings).list_topics(timeout=5).brokers
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "brokers": len(brokers),
        "versions": {name: version(name) for name in ("fastapi", "uvicorn", "confluent-kafka", "pydantic")},
    }


if __name__ == "__main__":
    main()
