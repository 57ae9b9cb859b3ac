"""`mailstream audit` against a real Kafka, with everything else stopped."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mailstream.domain import codec, email_id, record, topics
from mailstream.domain.dead_letter import DeadLetter, Reason
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.request import Address, Batch, Control, ControlKind, EmailRequest
from mailstream.domain.status import Status
from mailstream.domain.topics import Topic
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings
from streams.core import fold
from tests.support.audited import commit, hear, say, write
from tests.support.histories import PARTITIONS, Scene, a_clean_scene
from tests.support.history_logs import Record
from tests.support.system import as_environment


def audit(settings: Settings, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", "audit", *arguments]
    return subprocess.run(
        command, env=as_environment(settings), cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_clean_log_is_proven(settings: Settings, tmp_path: Path) -> None:
    write(a_clean_scene().records, settings)

    done = audit(settings, "verify", "--settle", "0", "--json", folder=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["holds"] is True
    assert report["emails"] == 6
    assert report["statuses"] == {"SENT": 4, "CANCELLED": 1, "FAILED": 1}
    assert report["records"]["email.requested"] == 7, "six requests and a cancel"
    assert "ada@example.com" not in done.stdout + done.stderr


def test_a_published_lie_is_found_and_told_to_people(settings: Settings, tmp_path: Path) -> None:
    scene = a_clean_scene()
    id_ = scene.ask(at=50)
    liar = fold.with_fact(scene.known[id_], fold.Fact(at=scene.known[id_].created_at, status=Status.SENT))
    scene.publish(liar, at=51)
    write(scene.records, settings)

    done = audit(settings, "verify", "--settle", "0", folder=tmp_path)

    assert done.returncode == 1
    assert f"NOT_THE_FOLD {id_}: published as SENT, the log says QUEUED" in done.stdout
    assert "Broken promises: NOT_THE_FOLD 1." in done.stdout


def test_what_just_changed_is_not_judged_while_a_worker_may_run(settings: Settings, tmp_path: Path) -> None:
    write(a_clean_scene().records, settings)

    done = audit(settings, "verify", "--json", folder=tmp_path)

    assert done.returncode == 0
    assert json.loads(done.stdout)["unsettled"] == 6


def test_rejected_moved_batched_and_identified_by_event_are_all_accounted_for(
    settings: Settings, tmp_path: Path
) -> None:
    scene = Scene()
    records = [*scene.records, *_odd_records(settings)]
    write(records, settings)

    done = audit(settings, "verify", "--settle", "0", "--json", folder=tmp_path)

    report = json.loads(done.stdout)
    assert done.returncode == 0, report["findings"]
    assert report["statuses"] == {"REJECTED": 1}
    assert report["waiting"]["requests"] == 2, "the item of the batch and the record without an id"


def a_stopped_system(settings: Settings) -> tuple[Scene, str]:
    """Workers took everything of a clean scene, and stopped. Returns it and an email that was sent."""
    scene = a_clean_scene()
    write(scene.records, settings)
    commit(settings, everything_of(scene))
    return scene, scene.calls[0].id or ""


def everything_of(scene: Scene) -> dict[tuple[Topic, int], int]:
    return {
        (topic, partition): scene.end_of(topic.name, partition)
        for topic in (topics.REQUESTED, topics.EVENTS)
        for partition in range(PARTITIONS)
        if scene.end_of(topic.name, partition)
    }


def test_what_came_while_no_worker_runs_is_counted_and_not_broken(settings: Settings, tmp_path: Path) -> None:
    scene, sent = a_stopped_system(settings)
    count = len(scene.records)
    for n in range(18):
        hear(scene, sent, "delivered" if n == 0 else "open", at=60 + n)
    for n in range(3):
        be_asked_only(scene, f"new{n}@example.com", at=80 + n)
    say(scene, sent, ControlKind.CANCEL, at=90)
    be_batched(scene, "gus@example.com", "hal@example.com")
    write(scene.records[count:], settings)

    told = audit(settings, "verify", "--settle", "0", folder=tmp_path)
    data = audit(settings, "verify", "--settle", "0", "--json", folder=tmp_path)

    assert told.returncode == data.returncode == 0, told.stdout + told.stderr
    assert "18 events, 3 requests, 1 control, 1 batch wait for a worker; 1 status lags until one runs." in told.stdout
    assert "Every promise was kept." in told.stdout
    report = json.loads(data.stdout)
    assert report["waiting"] == {"events": 18, "requests": 3, "controls": 1, "batches": 1}
    assert (report["behind"], report["offsets_known"]) == (1, True)


def test_what_a_worker_has_passed_and_nothing_came_of_is_broken(settings: Settings, tmp_path: Path) -> None:
    scene, sent = a_stopped_system(settings)
    count = len(scene.records)
    event = hear(scene, sent, "delivered", at=60)
    lost = be_asked_only(scene, "new@example.com", at=80)
    waiting = scene.ask("iris@example.com", at=85)
    cancel = say(scene, waiting, ControlKind.CANCEL, at=90)
    items = be_batched(scene, "gus@example.com", "hal@example.com")
    write(scene.records[count:], settings)
    commit(settings, everything_of(scene))

    told = audit(settings, "verify", "--settle", "0", folder=tmp_path)

    assert told.returncode == 1, told.stdout + told.stderr
    assert event.id == sent
    assert f"NOT_THE_FOLD {sent}: published as SENT, the log says DELIVERED" in told.stdout
    assert f"LOST {lost}: was asked for at email.requested {scene.partition_of(lost)}/" in told.stdout
    assert f"LOST {waiting}: the control at email.requested {cancel.partition}/{cancel.offset}" in told.stdout
    for item in items:
        assert f"LOST {item}: is named in the batch at email.requested 0/" in told.stdout
    assert "Broken promises: LOST 4, NOT_THE_FOLD 1." in told.stdout
    assert "Nothing waits for a worker." in told.stdout


def test_when_the_group_is_forgotten_the_audit_says_so(settings: Settings, tmp_path: Path) -> None:
    write(a_clean_scene().records, settings)

    done = audit(settings, "verify", "--settle", "0", folder=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "The brokers do not know how far the workers have come" in done.stdout


def be_asked_only(scene: Scene, address: str, *, at: float) -> str:
    """A request that nothing follows on. Returns its id."""
    id_ = email_id.new(address)
    request = EmailRequest(to=Address(address), id=id_, subject="Hello", text="Hello there")
    scene.append(topics.REQUESTED.name, scene.partition_of(id_), at, request)
    return id_


def be_batched(scene: Scene, *addresses: str) -> list[str]:
    """A strict batch as the API writes it. Returns the ids of its items."""
    items = tuple(
        EmailRequest(
            to=Address(each), id=email_id.new(each), from_=Address("post@example.org"), subject="Hello", text="Hello"
        )
        for each in addresses
    )
    scene.append(topics.REQUESTED.name, 0, 95, Batch(items=items, id="b"))
    return [item.id or "" for item in items]


def _odd_records(settings: Settings) -> list[Record]:
    """A bad record with its dead letter and status; a batch and its item; one without id."""
    hash_ = recipient_hash("ada@example.com")
    home, id_ = partition_of(hash_, settings.partitions), f"em_{hash_:08x}_bad"
    bad = EmailRequest(to=Address("ada@example.com"), id=id_, subject="a\nb")
    topic = settings.topic_prefix + topics.REQUESTED.name
    letter = DeadLetter(Reason.BAD_VALUE, "no", record.Record(topic, home, 0, 0, None, codec.encode(bad), {}))
    rejected = fold.rejected(
        email_id=id_,
        recipient=f"{hash_:08x}",
        place=fold.Coordinates(home, 0),
        at=datetime.now(UTC),
        reason="BAD_VALUE",
        detail="no",
        writer="w/1",
    )
    item = EmailRequest(to=Address("ada@example.com"), idempotency_key="k/0", subject="s", text="t")
    bare = EmailRequest(to=Address("ada@example.com"), subject="s", text="t")
    return [
        Record(topics.REQUESTED.name, home, 0, 0.0, bad),
        Record(topics.REJECTED.name, home, 0, 0.0, letter.value(), headers=dict(letter.headers())),
        Record(topics.STATUS.name, home, 0, 0.0, rejected),
        Record(topics.REQUESTED.name, home, 1, 0.0, Batch(items=(item,), id="b")),
        Record(topics.REQUESTED.name, home, 2, 0.0, item),
        Record(topics.REQUESTED.name, (home + 1) % settings.partitions, 0, 0.0, item),  # astray: its copy counts
        Record(topics.REQUESTED.name, home, 3, 0.0, bare),
    ]


def test_a_timeline_has_every_record_with_its_place_and_no_address(settings: Settings, tmp_path: Path) -> None:
    scene = a_clean_scene()
    held = next(s.id for s in scene.known.values() if any(fact.status is Status.HELD for fact in s.timeline))
    cancel = Control(kind=ControlKind.CANCEL, id=held, by="ops", reason="too late")
    scene.append(topics.REQUESTED.name, scene.partition_of(held), 50, cancel)
    write(scene.records, settings)

    done = audit(settings, "timeline", held, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "fay@example.com" not in done.stdout
    home = scene.partition_of(held)
    told = [line.split("  ", 2)[2].strip() for line in done.stdout.splitlines()]
    assert len(told) == len([r for r in scene.records if getattr(r.value, "id", None) == held])
    for beginning in ("asked for to f***@e***.com", "cancel asked for by ops (too late)", "claim: attempt 1",
                      "held, the outcome is unknown", "outcome ACCEPTED", "status SENT (attempt 1, final)"):  # fmt: skip
        assert any(line.startswith(beginning) for line in told), beginning
    assert f"email.attempts {home}/" in done.stdout


def test_the_timeline_of_an_unknown_id_is_a_failure_and_of_nonsense_wrong_use(
    settings: Settings, tmp_path: Path
) -> None:
    unknown = audit(settings, "timeline", "em_1c2f9a3b_unknown", folder=tmp_path)
    nonsense = audit(settings, "timeline", "17", folder=tmp_path)

    assert unknown.returncode == 1
    assert unknown.stdout == ""
    assert "No record about this email" in unknown.stderr
    assert nonsense.returncode == 2


def test_an_export_has_the_records_of_a_time_range_as_they_stand(settings: Settings, tmp_path: Path) -> None:
    scene = a_clean_scene()
    poison = Record(topics.REQUESTED.name, 0, 0, 0.0, b"\xff\xfe", key=b"\xfe")
    write([*scene.records, poison], settings)
    out, past = tmp_path / "all.jsonl", datetime.now(UTC) - timedelta(hours=1)

    everything = audit(settings, "export", "--out", str(out), folder=tmp_path)
    until_then = audit(settings, "export", "--until", f"{past:%Y-%m-%dT%H:%M:%S}", folder=tmp_path)
    requests = audit(
        settings, "export", "--topic", "email.requested", "--since", f"{past:%Y-%m-%dT%H:%M:%S}", folder=tmp_path
    )

    assert everything.returncode == 0, everything.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == len(scene.records) + 1
    assert until_then.stdout == ""
    asked = [json.loads(line) for line in requests.stdout.splitlines()]
    assert len(asked) == sum(record.topic == topics.REQUESTED.name for record in scene.records) + 1
    addresses = {line["value"]["to"]["email"] for line in asked if "to" in line.get("value", {})}
    assert "ada@example.com" in addresses
    assert [line["value_base64"] for line in asked if "value_base64" in line] == ["//4="]


def test_wrong_topics_and_no_broker_are_told_in_one_line(settings: Settings, tmp_path: Path) -> None:
    wrong = audit(settings, "export", "--topic", "email.nonsense", folder=tmp_path)
    missing = audit(
        settings.model_copy(update={"topic_prefix": "nobody-has-these."}), "verify", "--settle", "0", folder=tmp_path
    )

    assert wrong.returncode == 2
    assert missing.returncode == 1
    assert "mailstream topics plan" in missing.stderr
    assert "Traceback" not in wrong.stderr + missing.stderr


def test_the_audit_cannot_send(tmp_path: Path) -> None:
    code = (
        "import sys, cli.audit, streams.audit.verify, streams.audit.timeline, streams.audit.export\n"
        "print([name for name in sys.modules if name.startswith(('streams.provider', 'faust', 'aiohttp'))])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_a_reader_ends_at_the_end_that_it_saw_though_the_partition_grows(settings: Settings) -> None:
    scene = a_clean_scene()
    write(scene.records, settings)
    name, home = settings.topic_prefix + topics.STATUS.name, scene.partition_of(scene.calls[0].id or "")

    with Reader(settings) as reader:
        span = reader.span(name, home)
        write(scene.records, settings)  # grows meanwhile
        read = [message.offset() for message in reader.records(span)]

    assert read == list(range(span.start, span.end))
