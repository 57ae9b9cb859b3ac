"""The inbox keeps the newest mails and no more."""

import msgspec

from dev.sendgrid import inbox
from dev.sendgrid.inbox import Inbox
from dev.sendgrid.shape import read


def keep(box: Inbox, count: int, text: str = "Hi") -> None:
    body = msgspec.json.encode(
        {
            "personalizations": [{"to": [{"email": "ada@example.com", "name": "Ada"}]}],
            "from": {"email": "noreply@example.com"},
            "subject": "Hello",
            "content": [{"type": "text/plain", "value": text}],
        }
    )
    mail = read(body)
    for _ in range(count):
        box.keep(mail, body, "msg")


def test_the_number_of_mails_is_bounded() -> None:
    box = Inbox()
    keep(box, inbox.MOST_MAILS + 5)

    page = box.page(limit=1)

    assert page["total"] == inbox.MOST_MAILS
    assert page["data"][0]["seq"] == inbox.MOST_MAILS + 5
    assert box.one(5) is None
    assert box.one(6) is not None
    assert box.one(inbox.MOST_MAILS + 6) is None


def test_the_bytes_of_mails_are_bounded() -> None:
    box = Inbox()
    keep(box, 300, "x" * 1024 * 1024)

    assert box.page()["total"] == inbox.MOST_BYTES // (1024 * 1024) - 1


def test_a_mail_is_shown_with_names_and_addresses() -> None:
    box = Inbox()
    keep(box, 1)

    shown = box.one(1)

    assert shown is not None
    assert ("To", "Ada <ada@example.com>") in shown["headers"]
    assert (shown["has_html"], box.html(1)) == (False, None)
