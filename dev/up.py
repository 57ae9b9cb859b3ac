"""The whole system on this machine: Kafka, topics, SendGrid emulator, API and one worker; up in order, down in order."""

import contextlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import httpx
from confluent_kafka.cimpl import NewTopic
from rich.console import Console

from dev.kafka import find
from dev.lock import alone
from dev.ports import require_free
from dev.process import Process, end_leftover
from dev.sendgrid.webhook import Signer
from mailstream.domain.errors import NotStarted
from mailstream.domain.topics import Naming
from mailstream.kafka import admin as check
from mailstream.kafka import config
from mailstream.settings import PREFIX, Settings

EXAMPLES = Path(__file__).parents[1] / "examples"
#: Where the example's other service publishes. Such topics belong to other services: `topics apply` does not make them.
ORDERS = "shop.orders"
HOST = "127.0.0.1"
LOCK = "up.lock"
PARTS = ("sendgrid", "api", "worker")
#: From the start of Python to the first ready answer, with every partition loaded.
READY_SECONDS = 60.0
#: A worker drains for up to 25 s.
STOP_SECONDS = 35.0


class LocalSystem:
    """Start everything in a ``with`` block, tell each step in a line, and stop at its end what was started here.

    Entering raises NoKafka, PortTaken, NotStarted: each in words for people.
    """

    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings, self.folder = settings, Path(settings.data_dir)
        self.logs = self.folder / "logs"
        self.sendgrid_url = f"http://{HOST}:{settings.dev_sendgrid_port}"
        self.api_url = f"http://{HOST}:{settings.api_port}"
        self.worker_url = f"http://{HOST}:{settings.worker_port}"
        self.bootstrap = ""
        self.parts: list[Process] = []
        self._console = console
        self._environment: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as self._stack:
            self._claim_place()
            self._start_kafka()
            self._make_topics()
            self._start_parts()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ended(self) -> Process | None:
        """A part that has ended by itself, or None."""
        return next((part for part in self.parts if not part.is_running()), None)

    def orders_topic(self) -> str:
        """The full name of the topic of the example's other service."""
        return Naming(self.settings.topic_prefix).of(ORDERS)

    def _claim_place(self) -> None:
        if not self._stack.enter_context(alone(self.folder / LOCK)):
            raise NotStarted(
                "`mailstream dev up` (make run) runs in this folder already. Use that one, or stop it first."
            )
        for part in PARTS:
            end_leftover(self._pid_file(part))
        asked = self.settings
        require_free(asked.dev_sendgrid_port, "the SendGrid emulator", "MAILSTREAM_DEV_SENDGRID_PORT")
        require_free(asked.api_port, "the API", "MAILSTREAM_API_PORT", asked.api_host)
        require_free(asked.worker_port, "the worker", "MAILSTREAM_WORKER_PORT", asked.worker_host)

    def _start_kafka(self) -> None:
        found: list[find.Found] = []
        self._stack.callback(
            lambda: self._say_stopped("Kafka", "its data are kept") if found and found[0].broker else None
        )
        with self._step("Kafka") as doing:
            found.append(self._stack.enter_context(find.kafka(self.settings, tell=doing)))
            doing(f"{found[0].bootstrap}  {found[0].title}")
        self.bootstrap = found[0].bootstrap
        self.settings = self.settings.model_copy(update={"kafka_bootstrap": self.bootstrap})

    def _make_topics(self) -> None:
        with self._step("Topics") as doing:
            admin = config.admin(self.settings)
            found = check.apply(admin, self.settings)
            check.require(admin, self.settings)
            if self.orders_topic() not in admin.list_topics(timeout=10).topics:
                admin.create_topics([NewTopic(self.orders_topic(), 1, 1)])[self.orders_topic()].result(10)
            created = sum(finding.is_missing for finding in found)
            doing(f"{len(found)} with {self.settings.partitions} partitions, {created or 'none'} of them new")

    def _start_parts(self) -> None:
        asked = self.settings
        self._environment = {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "DEV": "1",
            "SENDER": asked.sender or "shop@example.com",
            "SENDGRID_URL": self.sendgrid_url,  # whatever .env says: nothing that runs here reaches a real account
            "SENDGRID_API_KEY": "SG.local",
            "TRIGGERS_FILE": asked.triggers_file or str(EXAMPLES / "triggers.yaml"),
            "TEMPLATES_DIR": asked.templates_dir or str(EXAMPLES / "templates"),
        }
        secret = secrets.randbits(200)
        self._environment["SENDGRID_WEBHOOK_KEYS"] = Signer(secret).public_key
        events = f"{self.api_url}/v1/events/sendgrid"
        emulator = ["dev", "sendgrid", "--port", str(asked.dev_sendgrid_port)]
        emulator += ["--webhook-url", events, "--webhook-secret", f"{secret:x}"]
        starting = (
            (
                self._start("SendGrid", "sendgrid", emulator),
                f"{self.sendgrid_url}/healthz",
                "an emulator: no mail leaves here",
            ),
            (self._start("API", "api", ["api"]), f"{self.api_url}/readyz", ""),
            (
                self._start("Worker", "worker", ["worker"]),
                f"{self.worker_url}/readyz",
                f"one call every {asked.send_gap:g} s",
            ),
        )
        for part, probe, note in starting:  # side by side: most of a start is the import of Python modules
            with self._step(part.name) as doing:
                part.wait_until(partial(_is_ready, probe), seconds=READY_SECONDS)
                doing(f"{probe.rpartition('/')[0]}  {note}")

    def _start(self, title: str, name: str, arguments: list[str]) -> Process:
        part = Process(
            title,
            [sys.executable, "-m", "cli.main", *arguments],
            log=self.logs / f"{name}.log",
            env=_without_secrets(os.environ) | {PREFIX + key: value for key, value in self._environment.items()},
            pid_file=self._pid_file(name),
        )
        self._stack.callback(self._stop, part)
        part.start()
        self.parts.append(part)
        return part

    def _stop(self, part: Process) -> None:
        if part.is_running():
            with self._console.status(f"Stopping {part.name} …"):
                code = part.stop(seconds=STOP_SECONDS)
            self._say_stopped(part.name, "" if code == 0 else f"exit code {code}: read {part.log}")

    def _pid_file(self, name: str) -> Path:
        return self.folder / f"{name}.pid"

    @contextmanager
    def _step(self, title: str) -> Iterator[Callable[[str], None]]:
        """One line when it is done; what it is doing, while it does. The last thing said is what the line tells."""
        began, said = time.monotonic(), [""]
        with self._console.status(f"{title} …") as status:

            def doing(text: str) -> None:
                said.append(text)
                status.update(f"{title}: {text}")

            yield doing
        seconds = time.monotonic() - began
        self._console.print(
            f"[green]✓[/] [bold]{title:<10}[/]{said[-1].rstrip()}  [dim]{seconds:.1f} s[/]",
            highlight=False,
            soft_wrap=True,
        )

    def _say_stopped(self, title: str, note: str) -> None:
        self._console.print(f"[dim]✓ {title} stopped{'; ' if note else ''}{note}[/]", highlight=False, soft_wrap=True)


def forget(settings: Settings) -> None:
    """Remove what a local system keeps, and nothing else that may be in DATA_DIR. Raises NotStarted while one runs."""
    folder = Path(settings.data_dir)
    with alone(folder / LOCK) as is_first:
        if not is_first:
            raise NotStarted("`mailstream dev up` (make run) runs in this folder. Nothing was removed. Stop it first.")
        find.forget(settings)
        for part in PARTS:
            end_leftover(folder / f"{part}.pid")
        for kept in (find.jars_in(folder), folder / "logs", folder / "faust", folder / "scratch"):
            shutil.rmtree(kept, ignore_errors=True)
        (folder / LOCK).unlink()
    with contextlib.suppress(OSError):  # not empty: somebody else's
        folder.rmdir()


def _without_secrets(environment: "os._Environ[str]") -> dict[str, str]:
    """Files win over variables: without their folder the local values count."""
    return {name: value for name, value in environment.items() if name != f"{PREFIX}SECRETS_DIR"}


def _is_ready(probe: str) -> bool:
    try:
        return httpx.get(probe, timeout=1.0).is_success
    except httpx.HTTPError:
        return False
