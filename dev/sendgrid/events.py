"""Which events SendGrid would send about a mail that it took. Addresses choose by their local part: ``bounce@…``."""

import base64
import random
from collections.abc import Iterator
from typing import Any

from dev.sendgrid.shape import MailSend, Personalization

Event = dict[str, Any]

#: What follows ``processed``, by the local part of the recipient up to a ``+``. All others are delivered.
_SCRIPTED: dict[str, tuple[Event, ...]] = {
    "bounce": ({"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 no such mailbox"},),
    "blocked": ({"event": "bounce", "type": "blocked", "status": "4.7.1", "reason": "421 try later"},),
    "dropped": ({"event": "dropped", "reason": "Bounced Address"},),
    "deferred": ({"event": "deferred", "attempt": "1", "response": "451 busy"}, {"event": "delivered"}),
    "spam": ({"event": "delivered"}, {"event": "spamreport"}),
    "unsubscribe": ({"event": "delivered"}, {"event": "unsubscribe"}),
    "open": ({"event": "delivered"}, {"event": "open", "useragent": "Mozilla/5.0", "ip": "192.0.2.1"}),
    "click": ({"event": "delivered"}, {"event": "click", "url": "https://example.com/", "ip": "192.0.2.1"}),
    "async-bounce": ({"event": "delivered"}, {"event": "bounce", "type": "bounce", "reason": "550 after all"}),
}
_DELIVERED: tuple[Event, ...] = ({"event": "delivered", "response": "250 OK", "tls": 1},)


def events_of(mail: MailSend, message_id: str, chance: random.Random) -> Iterator[tuple[int, Event]]:
    """Each event without its timestamp, behind how many waits after acceptance it comes.

    Copies (cc, bcc) have events of their own. An asynchronous bounce has neither message id nor custom args.
    """
    for one in mail.personalizations:
        custom_args = mail.custom_args | one.custom_args
        for mailbox in (*one.to, *one.cc, *one.bcc):
            local = mailbox.email.partition("@")[0].partition("+")[0].lower()
            scripted = ({"event": "processed"}, *_SCRIPTED.get(local, _DELIVERED))
            for step, event in enumerate(scripted, start=1):
                common = _common(mail, one, mailbox.email, message_id)
                if local == "async-bounce" and event["event"] == "bounce":
                    common.pop("sg_message_id")
                else:
                    common = custom_args | common  # flattened into the event; SendGrid's own names win
                yield step, common | event | {"sg_event_id": event_id(chance)}


def event_id(chance: random.Random) -> str:
    """22 characters that nothing repeats."""
    return base64.urlsafe_b64encode(chance.randbytes(16)).decode().rstrip("=")


def _common(mail: MailSend, one: Personalization, address: str, message_id: str) -> Event:
    common: Event = {
        "email": address,
        "smtp-id": f"<{message_id}@ismtpd-dev>",
        "sg_message_id": f"{message_id}.recvd-dev-0-{len(one.to)}.0",
    }
    if mail.categories:
        common["category"] = list(mail.categories)
    return common
