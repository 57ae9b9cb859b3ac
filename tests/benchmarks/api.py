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

from mailstream.kafka.config import admin
from mailstream.settings import Settings
from tests.benchmarks.api_process import ApiProcess, PlainProcess
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
PATHS = ["/v1/emails"]
#: Each of them asks both servers, one after the other.
ROUNDS = 5
#: Mode, items of a batch, batches of that size.
BATCHES = (("strict", 100, 200), ("strict", 1000, 30), ("permissive", 100, 200), ("permissive", 1000, 30))


def main() -> None:
    """Run all rows; a table on stderr, JSON on stdout."""
    settings = Settings(topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.", partitions=8, dev=True)
    with topics_of(settings), ApiProcess(settings) as api:
        print(f"idle: {api.rss_mib():.0f} MiB", file=sys.stderr)
        idle = api.rss_mib()
        rows = _beside_the_plain_app(settings, api)
        rows.append(api.measure("accept with a key", 32, 5000, "POST", PATHS, BODY, {"Idempotency-Key": "k-NUMBER"}))
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


def _beside_the_plain_app(settings: Settings, api: ApiProcess) -> list[dict[str, Any]]:
    """Accept, in turn with the plain app: what else the machine does comes to both."""
    rows = []
    other = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}plain."})
    with topics_of(other), PlainProcess(other) as plain:
        servers = {"accept": api, "accept, plain app": plain}
        for name, server in servers.items():
            server.measure(f"{name}, warm-up", 32, 2000, "POST", PATHS, BODY)
        for connections, requests in ((1, 1500), (32, 5000), (128, 5000)):
            pairs = [
                [server.measure(name, connections, requests, "POST", PATHS, BODY) for name, server in servers.items()]
                for _ in range(ROUNDS)
            ]
            ratios = sorted(ours["per_cpu_second"] / plains["per_cpu_second"] for ours, plains in pairs)
            slowest = [sorted(row["p99"] for row in rows)[ROUNDS // 2] for rows in zip(*pairs, strict=True)]
            rows += [row for pair in pairs for row in pair]
            print(
                f"beside the plain app, {connections} connections: {ratios[0]:.2f} to {ratios[-1]:.2f} of its rate for "
                f"each CPU-second, median {ratios[ROUNDS // 2]:.2f}; median p99 {slowest[0]} ms, the plain app's {slowest[1]} ms",
                file=sys.stderr,
            )
    return rows


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
