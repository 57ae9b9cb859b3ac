"""A template that loops for ever, in a real worker: its own mails end, and others are sent meanwhile."""

import asyncio
import time
from pathlib import Path

import pytest

from mailstream.settings import Settings
from tests.support.mail_system import MailSystem
from tests.support.processes import Programs

LOOP = "{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}"
LOOPING, OTHERS = 30, 100


def template(folder: Path, name: str, text: str) -> None:
    place = folder / name / "1" / "en"
    place.mkdir(parents=True)
    (place / "subject.txt").write_text("Hi")
    (place / "body.txt").write_text(text)


@pytest.mark.long
@pytest.mark.timeout(200)
async def test_its_own_mails_are_rejected_and_all_others_are_sent_first(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "templates"
    template(folder, "loop", LOOP)
    template(folder, "good", "Hello {{ name }}")
    system = MailSystem(programs, settings, send_gap=0.0, templates_dir=str(folder)).start()
    warm = await system.publish(1, subject=None, text=None, template="good", data={"name": "Ada"})
    await system.all_have(warm, "SENT", within_seconds=20)

    begun = time.time()
    looping = await system.publish(
        LOOPING, subject=None, text=None, template="loop", data={"l": list(range(2000))}, lane="critical"
    )
    good, plain = await asyncio.gather(
        system.publish(OTHERS, subject=None, text=None, template="good", data={"name": "Ada"}), system.publish(OTHERS)
    )
    await system.all_have([*good, *plain], "SENT", within_seconds=60)
    others = (
        max(call["at"] for call in system.ledger()) - begun
    )  # as the provider saw them: to look at all takes seconds
    await system.all_have(looping, "REJECTED", within_seconds=100)
    looped = time.time() - begun

    print(f"{2 * OTHERS} others sent after {others:.1f} s, {LOOPING} mails of the loop rejected after {looped:.1f} s")
    assert others < looped / 2
    timeline = system.status(looping[-1])["timeline"]
    assert "template loop: rendering took more than 200 ms and was stopped" in timeline[-1]["detail"]
