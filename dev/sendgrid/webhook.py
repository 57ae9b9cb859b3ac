"""The signed event webhook towards the API: posts what is due, repeats what was not taken, goes wrong on order."""

import asyncio
import base64
import contextlib
import heapq
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import aiohttp
import msgspec
import structlog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dev.sendgrid.behaviour import Behaviour, WebhookOrders
from dev.sendgrid.events import Event, event_id, events_of
from dev.sendgrid.shape import MailSend

log = structlog.get_logger(__name__)

MOST_WAITING = 200_000
#: SendGrid repeats for 24 hours, ever slower; here a minute is the longest wait.
_LONGEST_WAIT_SECONDS = 60.0
SIGNATURE_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"


class Signer:
    """SendGrid's signature: ECDSA P-256 with SHA-256 over timestamp and raw body."""

    def __init__(self, secret: int | None = None) -> None:
        """``secret``: the private scalar, for a key that stays the same; None draws one."""
        curve = ec.SECP256R1()
        self._key = ec.generate_private_key(curve) if secret is None else ec.derive_private_key(secret, curve)

    @property
    def public_key(self) -> str:
        """Base64 of the key's SPKI, as SendGrid shows it and MAILSTREAM_SENDGRID_WEBHOOK_KEYS takes it."""
        spki = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(spki).decode()

    def headers(self, body: bytes, now: float) -> dict[str, str]:
        """The two headers of a post. ``now``: seconds since 1970."""
        timestamp = str(int(now))
        signature = self._key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        return {SIGNATURE_HEADER: base64.b64encode(signature).decode(), TIMESTAMP_HEADER: timestamp}


class Webhook:
    """Events that wait for their time, and the task that posts them."""

    def __init__(self, behaviour: Behaviour, signer: Signer) -> None:
        self._behaviour, self._signer = behaviour, signer
        self._waiting: list[tuple[float, int, int, Event]] = []  # due, order, posts so far, event
        self._order = count()
        self._news = asyncio.Event()
        self.counts = {"posted": 0, "taken": 0, "refused_posts": 0, "forgotten": 0}
        self.last_status: int | None = None

    def announce(self, mail: MailSend, message_id: str) -> None:
        """Plan the events about a mail that was taken; nothing while no URL is set."""
        orders = self._behaviour.webhook
        if orders.url is None:
            return
        chance, now = self._behaviour.random, time.monotonic()
        steps, events = zip(*events_of(mail, message_id, chance), strict=True)
        dues = [now + step * self._behaviour.seconds(orders.delay_seconds) for step in steps]
        if orders.shuffle:
            chance.shuffle(dues)
        for due, event in zip(dues, events, strict=True):
            self._plan(orders, due, event)
        self._news.set()

    def shown(self) -> dict[str, Any]:
        """How it goes, for people and tests."""
        return {**self.counts, "waiting": len(self._waiting), "last_status": self.last_status}

    def forget(self) -> None:
        """Drop what waits."""
        self._waiting.clear()

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Post while the context is open."""
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            task = asyncio.create_task(self._post_for_ever(session))
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _plan(self, orders: WebhookOrders, due: float, event: Event) -> None:
        chance = self._behaviour.random
        if orders.lost_share and chance.random() < orders.lost_share:
            return
        if orders.late is not None and chance.random() < orders.late.share:
            due += chance.uniform(*orders.late.seconds)
        event["timestamp"] = int(time.time() + max(due - time.monotonic(), 0))
        self._wait(due, 0, event)
        if orders.duplicate_share and chance.random() < orders.duplicate_share:
            again = event | {"sg_event_id": event_id(chance)} if orders.duplicate_has_new_id else event
            self._wait(due + orders.every_seconds, 0, again)

    def _wait(self, due: float, posts: int, event: Event) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.counts["forgotten"] += 1
            return
        heapq.heappush(self._waiting, (due, next(self._order), posts, event))

    async def _post_for_ever(self, session: aiohttp.ClientSession) -> None:
        while True:
            if not self._waiting:
                self._news.clear()
                await self._news.wait()
            orders = self._behaviour.webhook
            if orders.url is not None and not orders.is_held and (due := self._due(orders.batch)):
                await self._post(session, orders, orders.url, due)
                if len(due) == orders.batch:
                    continue
            await asyncio.sleep(orders.every_seconds)

    def _due(self, most: int) -> list[tuple[int, Event]]:
        now = time.monotonic()
        due: list[tuple[int, Event]] = []
        while self._waiting and self._waiting[0][0] <= now and len(due) < most:
            _, _, posts, event = heapq.heappop(self._waiting)
            due.append((posts, event))
        return due

    async def _post(
        self, session: aiohttp.ClientSession, orders: WebhookOrders, url: str, due: list[tuple[int, Event]]
    ) -> None:
        if orders.shuffle:
            self._behaviour.random.shuffle(due)
        body = msgspec.json.encode([event for _, event in due]) + b"\r\n"
        headers = {"Content-Type": "application/json", "User-Agent": "SendGrid Event API"}
        if orders.is_signed:
            headers |= self._signer.headers(body, time.time())
        self.counts["posted"] += len(due)
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                self.last_status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.last_status = None
            log.warning("webhook_not_reached", error=type(error).__name__)
        if self.last_status is not None and 200 <= self.last_status < 300:
            self.counts["taken"] += len(due)
            return
        self.counts["refused_posts"] += 1
        for posts, event in due:
            wait = min(orders.every_seconds * 2.0 ** min(posts + 1, 10), _LONGEST_WAIT_SECONDS)
            self._wait(time.monotonic() + wait, posts + 1, event)
