"""Probes that say why, and metrics; served before and independently of the app, so they answer during a load.

They see what Faust hides: a worker that does not settle in its group, a crash, an unfinished load. A group or a reader
that has ended needs no probe: ``faust_guards/membership.py`` ends the process.
"""

import time
from functools import partial
from typing import Any

from aiohttp import web
from faust.types import TP
from mode import Service
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mailstream.domain import topics
from streams.app import MailApp
from streams.metrics import LAG
from streams.wiring import Wiring

REJOIN_SECONDS = 180.0  #: without group membership, or in one rebalance, before a worker counts as dead


class Health(Service):  # type: ignore[misc]
    """``/healthz`` (and ``/livez``): restart me or not. ``/readyz``: am I working. ``/metrics``: Prometheus."""

    def __init__(self, app: MailApp, *, host: str, port: int) -> None:
        super().__init__()
        self._app, self._host, self._port = app, host, port
        self._settled_at = time.monotonic()
        self._runner: web.AppRunner | None = None

    def state(self) -> dict[str, Any]:
        """Verdicts and evidence, computed when asked."""
        app, now = self._app, time.monotonic()
        thread = getattr(app._consumer, "_thread", None)
        generation = getattr(getattr(getattr(thread, "_consumer", None), "_coordinator", None), "generation", -1)
        if generation > 0 and not app.rebalancing:
            self._settled_at = now
        dead = []
        if app.crashed or app.should_stop:
            dead.append("crashed or stopping")
        if now - self._settled_at > REJOIN_SECONDS:
            dead.append(f"not a settled group member for {now - self._settled_at:.0f} s")
        wiring: Wiring | None = getattr(app, "wiring", None)
        not_ready = wiring.clearance.reasons() if wiring else ["starting"]
        if not app.started or generation <= 0 or app.rebalancing:
            not_ready.append("joining the group or loading partitions")
        elif not app._assignment:
            not_ready.append("owns no partition: more workers than partitions")
        return {
            "live": not dead,
            "ready": not dead and not not_ready,
            "reasons": dead + not_ready,
            "generation": generation,
            "rebalancing": app.rebalancing,
            **(_report(wiring) if wiring else {}),
        }

    async def on_start(self) -> None:
        """Listen."""
        server = web.Application()
        for path, verdict in (("/healthz", "live"), ("/livez", "live"), ("/readyz", "ready")):
            server.router.add_get(path, partial(self._answer, verdict))
        server.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(server, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def on_stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, verdict: str, _: web.Request) -> web.Response:
        state = self.state()
        return web.json_response(state, status=200 if state[verdict] else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        if hasattr(self._app, "wiring"):
            self._measure(self._app.wiring)
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _measure(self, wiring: Wiring) -> None:
        """Set the gauges that are true only for the moment: they are about to be read."""
        wiring.queue.measure()
        LAG.clear()
        topic = wiring.kafka.name_of(topics.REQUESTED)
        for partition in wiring.clearance.partitions:
            LAG.labels(str(partition)).set(self._app.lag(TP(topic, partition)))


def _report(wiring: Wiring) -> dict[str, Any]:
    return {
        "partitions": len(wiring.clearance.partitions),
        "pace": wiring.pace.mode.value,
        "unreadable_topics": wiring.triggers.unreadable if wiring.triggers else {},
        "waiting": len(wiring.queue.schedule),
        "in_work": wiring.dispatch.in_work(),
        "barred": wiring.barrier.unread(),
    }
