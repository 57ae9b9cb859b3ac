"""The last mails for people to look at."""

import time
from collections import deque
from typing import Any

from msgspec import Struct

from dev.sendgrid.shape import Mailbox, MailSend, read

#: Older mails are forgotten; the ledger still knows them.
MOST_MAILS = 10_000
MOST_BYTES = 128 * 1024 * 1024


class Kept(Struct, frozen=True, gc=False):
    """One mail as it came, with what a list shows of it."""

    seq: int
    at: float  #: seconds since 1970
    message_id: str
    sender: str
    to: str
    subject: str
    body: bytes


class Inbox:
    """A bounded number of mails, the newest ones."""

    def __init__(self) -> None:
        self._mails: deque[Kept] = deque()
        self._bytes = 0
        self._seq = 0

    def keep(self, mail: MailSend, body: bytes, message_id: str) -> None:
        """Put a mail in; older ones make room."""
        self._seq += 1
        one = mail.personalizations[0]
        subject = one.subject or mail.subject or ""
        self._mails.append(Kept(self._seq, time.time(), message_id, mail.from_.email, one.to[0].email, subject, body))
        self._bytes += len(body)
        while len(self._mails) > MOST_MAILS or (self._bytes > MOST_BYTES and len(self._mails) > 1):
            self._bytes -= len(self._mails.popleft().body)

    def clear(self) -> None:
        """Throw all mails away."""
        self._mails.clear()
        self._bytes = 0

    def page(self, *, search: str = "", limit: int = 100) -> dict[str, Any]:
        """The newest mails whose sender, recipient or subject holds the text."""
        wanted = search.casefold()
        data: list[dict[str, Any]] = []
        for kept in reversed(self._mails):
            if len(data) == limit:
                break
            if wanted in f"{kept.to}\n{kept.subject}\n{kept.sender}".casefold():
                data.append(
                    {
                        "seq": kept.seq,
                        "at": kept.at,
                        "from": kept.sender,
                        "to": kept.to,
                        "subject": kept.subject,
                        "size_bytes": len(kept.body),
                    }
                )
        return {"object": "list", "data": data, "total": len(self._mails)}

    def one(self, seq: int) -> dict[str, Any] | None:
        """All of one mail, or None when it was forgotten."""
        if (kept := self._find(seq)) is None:
            return None
        mail = read(kept.body)
        one = mail.personalizations[0]
        return {
            "seq": kept.seq,
            "at": kept.at,
            "message_id": kept.message_id,
            "headers": _headers(mail, kept.message_id),
            "subject": kept.subject,
            "text": _content(mail, "text/plain"),
            "has_html": _content(mail, "text/html") is not None,
            "template_id": mail.template_id,
            "template_data": one.dynamic_template_data or None,
            "attachments": [
                {"filename": file.filename, "type": file.type, "size_bytes": len(file.content) * 3 // 4}
                for file in mail.attachments
            ],
            "custom_args": mail.custom_args | one.custom_args,
            "categories": mail.categories,
            "source": kept.body.decode(),
        }

    def html(self, seq: int) -> str | None:
        """The HTML of one mail as the sender wrote it. Show it in a sandbox only."""
        return None if (kept := self._find(seq)) is None else _content(read(kept.body), "text/html")

    def _find(self, seq: int) -> Kept | None:
        if not self._mails or not (0 <= (n := seq - self._mails[0].seq) < len(self._mails)):
            return None
        return self._mails[n]


def _content(mail: MailSend, kind: str) -> str | None:
    return next((content.value for content in mail.content if content.type == kind), None)


def _headers(mail: MailSend, message_id: str) -> list[tuple[str, str]]:
    one = mail.personalizations[0]
    listed = [("From", (one.from_ or mail.from_,)), ("To", one.to), ("Cc", one.cc), ("Bcc", one.bcc)]
    listed.append(("Reply-To", (mail.reply_to,) if mail.reply_to else mail.reply_to_list))
    headers = [(name, ", ".join(map(_written, mailboxes))) for name, mailboxes in listed if mailboxes]
    headers.append(("X-Message-Id", message_id))
    return [*headers, *mail.headers.items(), *one.headers.items()]


def _written(mailbox: Mailbox) -> str:
    return f"{mailbox.name} <{mailbox.email}>" if mailbox.name else mailbox.email
