"""How fast the API accepts and answers, on one core: `python -m tests.benchmarks.api`.

Needs a Kafka (MAILSTREAM_KAFKA_BOOTSTRAP). The client is a process of its own; the rate is told for each CPU-second of
the API, so that it does not depend on what else the machine does.
"""

import json
import os
import platform
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from importlib.metadata import version
from typing import Any

import psutil

from mailstream.log.client import admin
from mailstream.settings import Settings
from tests.benchmarks.load import Job, job_text
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
KEY = {"Authorization": "Bearer dev"}


def main() -> None:
    """Run all rows; a table on stderr, JSON on stdout."""
    settings = Settings(topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.", partitions=8, dev=True)
    with topics_of(settings), _Api(settings) as api:
        print(f"idle: {api.rss_mib():.0f} MiB", file=sys.stderr)
        idle = api.rss_mib()
        rows = []
        api.measure("warm-up", 32, 2000, "POST", ["/v1/emails"], BODY)
        for connections, requests in ((1, 3000), (32, 10_000), (128, 10_000)):
            rows.append(api.measure("accept", connections, requests, "POST", ["/v1/emails"], BODY))
        rows.append(
            api.measure("accept with a key", 32, 5000, "POST", ["/v1/emails"], BODY, {"Idempotency-Key": "k-NUMBER"})
        )
        ids = [api.ask(number) for number in range(200)]
        paths = [f"/v1/emails/{each}" for each in ids]
        for connections, requests in ((1, 3000), (32, 20_000)):
            rows.append(api.measure("lookup", connections, requests, "GET", paths, None))
        misses = [f"/v1/emails/{each[:12]}{uuid.uuid4().hex}" for each in ids]
        rows.append(api.measure("lookup, a miss", 1, 300, "GET", misses, None))
        rows.append(api.measure("healthz", 32, 20_000, "GET", ["/healthz"], None))
        figures = {"machine": _machine(settings), "idle_rss_mib": idle, "rss_mib": api.rss_mib(), "rows": rows}
    print(json.dumps(figures, indent=1))


class _Api:
    def __init__(self, settings: Settings) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._environment = os.environ | {
            "MAILSTREAM_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "MAILSTREAM_TOPIC_PREFIX": settings.topic_prefix,
            "MAILSTREAM_PARTITIONS": str(settings.partitions),
            "MAILSTREAM_DEV": "1",
            "MAILSTREAM_SENDER": "shop@example.com",
            "MAILSTREAM_API_PORT": str(self._port),
            "MAILSTREAM_LOG_LEVEL": "WARNING",
        }

    def __enter__(self) -> "_Api":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "api"], env=self._environment, stdout=subprocess.DEVNULL
        )
        self._watched = psutil.Process(self._process.pid)
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=1):
                    return self
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the API did not become ready")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def rss_mib(self) -> float:
        """Memory of the API."""
        return float(self._watched.memory_info().rss) / 2**20

    def ask(self, number: int) -> str:
        """One email; its id."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/v1/emails", BODY.replace("NUMBER", str(number)).encode(), KEY
        )
        with urllib.request.urlopen(request) as answer:
            return str(json.load(answer)["id"])

    def measure(
        self,
        name: str,
        connections: int,
        requests: int,
        method: str,
        paths: list[str],
        body: str | None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """One row: the client's figures beside the CPU that the API took for them."""
        job = Job("127.0.0.1", self._port, method, paths, body, KEY | (headers or {}), connections, requests)
        before = self._cpu()
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.load"],
            input=job_text(job),
            capture_output=True,
            text=True,
            check=True,
        )
        cpu = self._cpu() - before
        found = json.loads(done.stdout)
        row = {
            "what": name,
            "connections": connections,
            "statuses": found["statuses"],
            "per_second": round(found["answers"] / found["seconds"]),
            "per_cpu_second": round(found["answers"] / cpu),
            **{name: round(found[name] * 1000, 2) for name in ("p50", "p99", "max")},
        }
        print(
            f"{name:20} {connections:4} connections {row['per_second']:7,}/s {row['per_cpu_second']:7,}/CPU-s   "
            f"p50 {row['p50']:.2f} ms  p99 {row['p99']:.2f} ms  {row['statuses']}",
            file=sys.stderr,
        )
        return row

    def _cpu(self) -> float:
        times = self._watched.cpu_times()
        return float(times.user + times.system)


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
