"""A server to measure: a process of its own, asked by a client in another one."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from typing import Any, Self

import psutil

from dev.ports import free_port
from mailstream.domain import topics
from mailstream.settings import Settings
from tests.benchmarks.load import Job, job_text

KEY = {"Authorization": "Bearer dev"}
JSON = {"Content-Type": "application/json"}
READY_SECONDS = 120.0


class Server:
    """An HTTP server in a process of its own: memory and CPU are its alone."""

    def __init__(self, program: list[str], environment: dict[str, str], port: int, ready: str) -> None:
        """``ready``: the path that answers once it can be asked."""
        self.seconds_to_ready = 0.0
        self.cpu_seconds_to_ready = 0.0
        self.port = port
        self._program, self._environment, self._ready = program, os.environ | environment, ready

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._program], env=self._environment, stdout=subprocess.DEVNULL
        )
        begun = time.monotonic()
        self._watched = psutil.Process(self._process.pid)
        while time.monotonic() < begun + READY_SECONDS:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self._ready}", timeout=1):
                    self.seconds_to_ready = time.monotonic() - begun
                    self.cpu_seconds_to_ready = self.cpu_seconds()
                    return self
            except OSError:
                time.sleep(0.05)
        self._process.terminate()
        raise SystemExit(f"{self._program[0]} did not become ready")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def rss_mib(self) -> float:
        """Memory of the process."""
        return float(self._watched.memory_info().rss) / 2**20

    def ask(self, body: str) -> str:
        """One email; its id."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/emails", body.encode(), KEY)
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
        emails: int = 1,
    ) -> dict[str, Any]:
        """One row: the client's figures beside the CPU that the server took for them; ``emails`` in each request."""
        job = Job("127.0.0.1", self.port, method, paths, body, KEY | JSON | (headers or {}), connections, requests)
        before = self.cpu_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.load"],
            input=job_text(job),
            capture_output=True,
            text=True,
            check=True,
        )
        cpu = self.cpu_seconds() - before
        found = json.loads(done.stdout)
        row = {
            "what": name,
            "connections": connections,
            "statuses": found["statuses"],
            "per_second": round(emails * found["answers"] / found["seconds"]),
            "per_cpu_second": round(emails * found["answers"] / cpu),
            **{name: round(found[name] * 1000, 2) for name in ("p50", "p99", "max")},
        }
        print(
            f"{name:28} {connections:4} connections {row['per_second']:7,}/s {row['per_cpu_second']:7,}/CPU-s   "
            f"p50 {row['p50']:.2f} ms  p99 {row['p99']:.2f} ms  {row['statuses']}",
            file=sys.stderr,
        )
        return row

    def cpu_seconds(self) -> float:
        """CPU that the process has taken."""
        times = self._watched.cpu_times()
        return float(times.user + times.system)


class ApiProcess(Server):
    """Our API."""

    def __init__(self, settings: Settings) -> None:
        port = free_port()
        environment = {
            "MAILSTREAM_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "MAILSTREAM_TOPIC_PREFIX": settings.topic_prefix,
            "MAILSTREAM_PARTITIONS": str(settings.partitions),
            "MAILSTREAM_DEV": "1",
            "MAILSTREAM_SENDER": "shop@example.com",
            "MAILSTREAM_API_PORT": str(port),
            "MAILSTREAM_LOG_LEVEL": "WARNING",
        }
        super().__init__(["cli.main", "api"], environment, port, "/readyz")


class PlainProcess(Server):
    """The plain app beside it, on a topic of the same kind."""

    def __init__(self, settings: Settings) -> None:
        port = free_port()
        environment = {
            "PLAIN_BOOTSTRAP": settings.kafka_bootstrap,
            "PLAIN_TOPIC": topics.Naming(settings.topic_prefix).of(topics.REQUESTED),
        }
        program = ["uvicorn", "tests.benchmarks.plain_app:app", "--port", str(port)]
        super().__init__([*program, "--no-access-log", "--log-level", "warning"], environment, port, "/openapi.json")
