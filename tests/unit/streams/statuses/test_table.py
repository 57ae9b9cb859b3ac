"""A status that the broker did not take is written again, but never over what another owner wrote meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import NotPublished
from mailstream.domain.status import EmailStatus, Status
from streams.statuses import store, table
from streams.statuses.table import StatusTable
from tests.support.builders import HOME, ID, PARTITIONS, a_status
from tests.support.tables import a_table


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> "list[asyncio.Future[Any]]":
    """What the table handed to the producer; the repetition follows at once."""
    monkeypatch.setattr(table, "REPEAT_SECONDS", 0.0)
    return []


def a_table_that_sends(sent: "list[asyncio.Future[Any]]") -> StatusTable:
    def send(*_: Any, **__: Any) -> "asyncio.Future[Any]":
        sent.append(asyncio.get_running_loop().create_future())
        return sent[-1]

    def post(topic: str, value: bytes, then: Callable[[Any], None], **_: Any) -> None:
        send().add_done_callback(lambda done: then(done.exception()))

    made = a_table(Mock(send=send, post=post))
    made.gained({HOME})
    return made


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_status_that_was_not_taken_is_written_again(sent: "list[asyncio.Future[Any]]") -> None:
    a_table_that_sends(sent).put(a_status(Status.SENT, 1), HOME)

    sent[0].set_exception(NotPublished("too late"))
    await turns()

    assert len(sent) == 2


async def test_but_not_after_the_partition_went_and_came_back(sent: "list[asyncio.Future[Any]]") -> None:
    known = a_table_that_sends(sent)
    known.put(a_status(Status.QUEUED), HOME)
    known.lost({HOME})
    known.gained({HOME})
    known.remember(a_status(Status.QUEUED), b"what was read so far of a log that says SENT at its end")

    sent[0].set_exception(NotPublished("too late"))
    await turns()

    assert len(sent) == 1
    assert not known.unwritten()


async def test_an_email_is_not_forgotten_while_a_record_waits_for_its_status(
    sent: "list[asyncio.Future[Any]]",
) -> None:
    """An old event about an old email: its offset is acked when the status is durable, which must still come."""
    known, done = a_table_that_sends(sent), Mock()
    known.put(a_status(Status.DELIVERED, 1), HOME, done)

    assert not known.forget(ID, HOME)
    sent[0].set_result(None)
    await turns()
    assert known.forget(ID, HOME)

    done.assert_called_once_with()
    assert known.get_status(ID) is None


# -- more statuses than memory has room for ------------------------------------------------------------------------


@pytest.fixture
def is_cramped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any room in memory."""
    monkeypatch.setattr(store, "AT_HAND", 2)
    monkeypatch.setattr(store, "MOST_RECENT", 4)
    monkeypatch.setattr(store, "AT_ONCE", 3)


def a_full_table() -> "tuple[StatusTable, list[Any]]":
    """A table with twenty statuses, and what it has written."""
    written: list[Any] = []

    def send(_: str, value: bytes | None, **members: Any) -> "asyncio.Future[Any]":
        written.append((members["key"].decode(), value))
        return asyncio.get_running_loop().create_future()

    def post(topic: str, value: bytes, then: Callable[[Any], None], **members: Any) -> None:
        send(topic, value, **members)
        then(None)

    made = a_table(Mock(send=send, post=post))
    made.gained({HOME})
    for n in range(20):
        made.put(numbered(n), HOME)
    return made, written


def numbered(n: int, status: Status = Status.QUEUED) -> EmailStatus:
    return structs.replace(a_status(status, 0), id=f"{ID[:12]}{n}", reference=f"order-{n}")


@pytest.mark.usefixtures("is_cramped")
async def test_every_status_is_known_wherever_it_is_and_comes_once() -> None:
    known, _ = a_full_table()

    assert [known.get_status(numbered(n).id) for n in range(20)] == [numbered(n) for n in range(20)]
    assert sorted(s.id for s in known.statuses([HOME])) == sorted(numbered(n).id for n in range(20))
    assert not list(known.statuses([HOME + 1]))


@pytest.mark.usefixtures("is_cramped")
async def test_a_status_in_the_file_that_changes_is_the_new_one_and_is_so_in_the_file_again() -> None:
    known, _ = a_full_table()

    known.put(numbered(0, Status.CANCELLED), HOME)
    assert known.get_status(numbered(0).id) == numbered(0, Status.CANCELLED)
    for n in range(1, 20):
        known.get_status(numbered(n).id)

    assert known.get_status(numbered(0).id) == numbered(0, Status.CANCELLED)
    assert [s.status for s in known.statuses([HOME])].count(Status.CANCELLED) == 1


@pytest.mark.usefixtures("is_cramped")
async def test_a_walk_meets_each_email_once_though_all_of_them_change_meanwhile() -> None:
    known, _ = a_full_table()

    met = []
    for status in known.statuses([HOME]):
        met.append(status.id)
        for n in range(20):
            known.put(numbered(n, Status.CANCELLED), HOME)
        known.drop(numbered(19).id.encode())

    assert sorted({*met, numbered(19).id}) == sorted(numbered(n).id for n in range(20))
    assert len(met) == len(set(met))


@pytest.mark.usefixtures("is_cramped")
async def test_statuses_in_the_file_are_written_again_forgotten_and_lost_as_the_others_are() -> None:
    known, written = a_full_table()

    known.rewrite(numbered(0).id, HOME)
    assert written[-1] == (numbered(0).id, codec.encode(numbered(0)))
    known.drop(numbered(1).id.encode())
    known.forget(numbered(2).id, HOME)
    assert written[-1] == (numbered(2).id, None)
    assert known.get_status(numbered(1).id) is known.get_status(numbered(2).id) is None
    assert len(list(known.statuses([HOME]))) == 18

    known.lost({HOME})

    assert not list(known.statuses([HOME]))
    assert all(known.get_status(numbered(n).id) is None for n in range(20))


@pytest.mark.usefixtures("is_cramped")
async def test_it_is_read_as_any_table_of_faust_and_written_by_put_alone() -> None:
    known, written = a_full_table()

    assert known[numbered(0).id] == numbered(0)
    assert numbered(19).id in known
    assert "em_00000000_unknown" not in known
    with pytest.raises(KeyError):
        known["em_00000000_unknown"]
    assert len(known) == 20
    assert dict(known.items()) == {numbered(n).id: numbered(n) for n in range(20)}
    with pytest.raises(TypeError, match="put"):
        known[ID] = numbered(0)
    with pytest.raises(TypeError, match="forget"):
        del known[numbered(0).id]
    assert len(written) == 20


@pytest.mark.usefixtures("is_cramped")
async def test_a_partition_takes_nothing_of_another_along() -> None:
    known, _ = a_full_table()
    there = next(id_ for n in range(99) if partition_in(id_ := f"em_{n:08x}_1", PARTITIONS) != HOME)
    elsewhere = partition_in(there, PARTITIONS)
    known.gained({elsewhere})
    known.put(structs.replace(a_status(), id=there), elsewhere)

    known.lost({HOME})

    assert [status.id for status in known.statuses([HOME, elsewhere])] == [there]
    known.gained({HOME})
    known.put(numbered(0), HOME)
    assert [status.id for status in known.statuses([HOME])] == [numbered(0).id]


@pytest.mark.usefixtures("is_cramped")
async def test_a_record_under_a_key_that_is_no_email_id_harms_nothing() -> None:
    known, _ = a_full_table()
    stranger = structs.replace(a_status(), id="stranger")

    known.remember(stranger, codec.encode(stranger))
    for n in range(20):
        known.put(numbered(n, Status.CANCELLED), HOME)
    known.drop(b"stranger")

    assert known.get_status("stranger") is None
    assert len(list(known.statuses(range(PARTITIONS)))) == 20
