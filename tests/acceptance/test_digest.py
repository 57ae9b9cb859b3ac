"""Digest and frequency cap with real processes: what is in one mail, what is not sent, and what a kill changes."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailstream.domain import codec, topics
from mailstream.domain.recipient import recipient_hash
from mailstream.domain.status import EmailStatus
from mailstream.settings import Settings
from tests.support.armed_worker import armed
from tests.support.domain_events import TEMPLATES, as_bytes, cloud_event
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, an_address
from tests.support.nursery import Nursery
from tests.support.processes import Programs
from tests.support.trigger_bench import Bench
from tests.support.whole_topic import whole_topic

COMMENT: dict[str, Any] = {
    "topic": "shop.orders", "type": "comment.added", "to": "data.reader", "template": "comment", "tenant": "dev",
    "data": {"author": "data.author", "title": "data.title", "text": "data.text"}, "on_ambiguous": "resend",
}  # fmt: skip
GATHERED = COMMENT | {
    "name": "gathered", "when": "data.title != 'capped'", "digest": {"window": "3s", "template": "comments"},
}  # fmt: skip
CAPPED = COMMENT | {"name": "capped", "when": "data.title == 'capped'", "cap": {"count": 2, "per": "1h"}}


def with_rules(settings: Settings, folder: Path) -> Settings:
    file = folder / "triggers.yaml"
    file.write_text(json.dumps({"rules": [GATHERED, CAPPED]}))
    return settings.model_copy(
        update={
            "triggers_file": str(file),
            "templates_dir": str(TEMPLATES),
            "send_gap": 0.01,
            "session_timeout": 2,
            "hold_timeout": 1.0,
        }
    )


def say(bench: Bench, reader: str, *numbers: int, title: str = "The plan") -> None:
    for number in numbers:
        data = {"author": "Bob", "title": title, "text": f"comment {number}.", "reader": reader}
        bench.say(as_bytes(cloud_event(data, type="comment.added", id=f"{reader}-{title}-{number}")), key=b"k")


def mails_to(system: MailSystem, reader: str) -> list[str]:
    """The text of each mail that reached the provider, in order."""
    page = httpx.get(f"{system.emulator.url}/inbox/mails", params={"search": reader, "limit": 100}, timeout=10).json()
    found = [httpx.get(f"{system.emulator.url}/inbox/mails/{mail['seq']}", timeout=10).json() for mail in page["data"]]
    return [mail["text"] for mail in sorted(found, key=lambda mail: int(mail["seq"]))]


def told_in(mails: list[str]) -> list[list[int]]:
    """The numbers of the comments in each mail."""
    return [[n for n in range(20) if f"comment {n}." in mail] for mail in mails]


def statuses(settings: Settings) -> dict[str, EmailStatus]:
    found = {}
    for record in whole_topic(settings, topics.STATUS):
        status = codec.decode_status(record.value() or b"")
        found[status.id] = status
    return found


def of(settings: Settings, reader: str) -> list[EmailStatus]:
    """Where the emails of a reader stand, in the order of their requests."""
    mine = [s for s in statuses(settings).values() if s.recipient == f"{recipient_hash(reader):08x}"]
    return sorted(mine, key=lambda status: status.order)


async def test_a_digest_is_one_mail_and_a_cap_holds_after_a_restart(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    bench = Bench(settings)
    system = MailSystem(programs, with_rules(settings, tmp_path))
    several, alone, capped = an_address(), an_address(), an_address()
    (worker,) = system.add_workers(1)
    say(bench, several, 1, 2, 3, 4, 5)
    say(bench, several, 3)  # published again by its service
    say(bench, alone, 1)
    say(bench, capped, 1, 2, 3, title="capped")

    await eventually(lambda: len(mails_to(system, alone)) == 1, within_seconds=20, waiting_for="the digests")
    await eventually(
        lambda: [s.status for s in of(settings, capped)] == ["SENT", "SENT", "SUPPRESSED"], waiting_for="the cap"
    )
    worker.stop(seconds=20)
    say(bench, capped, 4, title="capped")
    say(bench, several, 6)
    system.add_workers(1)
    await eventually(
        lambda: [s.status for s in of(settings, capped)][3:] == ["SUPPRESSED"],
        within_seconds=20,
        waiting_for="the cap after the restart",
    )
    await eventually(lambda: len(mails_to(system, several)) == 2, within_seconds=20, waiting_for="the next digest")

    assert told_in(mails_to(system, several)) == [[1, 2, 3, 4, 5], [6]]
    assert told_in(mails_to(system, alone)) == [[1]]
    assert sorted(told_in(mails_to(system, capped))) == [[1], [2]]
    first, *others, _ = of(settings, several)
    assert first.status == "SENT"
    assert [(other.status, other.digested_into) for other in others] == [("SUPPRESSED", first.id)] * 4
    assert others[0].timeline[-1].detail == f"digested into {first.id}"
    assert "frequency_cap" in (of(settings, capped)[2].timeline[-1].detail or "")


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_worker_killed_between_the_parts_of_a_digest_loses_and_doubles_no_event(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    """C5: claimed, nobody has ended. C5b: all have ended in its favour. C6: before its call. C10: after it."""
    bench = Bench(settings)
    system = MailSystem(programs, with_rules(settings, tmp_path))
    points = ("C4", "C5", "C5b", "C6", "C10")
    readers = {point: an_address() for point in points}
    with Nursery(tmp_path) as nursery:
        for point, reader in readers.items():
            say(bench, reader, 1, 2, 3, 4)
            worker = nursery.worker(system.settings, armed(point, f"em_{recipient_hash(reader):08x}"))
            code = await asyncio.to_thread(worker.wait, 60)
            assert code == -signal.SIGKILL, f"{point}: {code}\n{worker.last_lines(30)}"
        nursery.worker(system.settings)
        await eventually(
            lambda: all(s.final for reader in readers.values() for s in of(settings, reader)),
            within_seconds=90,
            waiting_for="the end of all",
            every_seconds=1.0,
        )
        for point, reader in readers.items():
            told = Counter(number for mail in told_in(mails_to(system, reader)) for number in mail)
            assert told == Counter([1, 2, 3, 4]), f"{point}: {told_in(mails_to(system, reader))}"
            for status in of(settings, reader):
                assert status.status in ("SENT", "SUPPRESSED"), f"{point}: {status.status}"
