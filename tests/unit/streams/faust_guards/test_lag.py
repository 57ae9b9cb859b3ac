"""The lag of a partition: what is not acked, read or not."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from faust.types import TP

from mailstream.settings import Settings
from streams.faust_guards.app import GuardedApp

REQUESTS = TP("email.requested", 0)


def an_app(folder: Path, *, committed: int | None, end: int | None) -> GuardedApp:
    """An app that was just assigned the partition, and the end that its last fetch told."""
    app = GuardedApp(Settings(data_dir=str(folder)), "test")
    app._consumer = SimpleNamespace(
        assignment=lambda: {REQUESTS}, highwater=lambda _: end, _committed_offset={REQUESTS: committed}
    )
    return app


def test_it_counts_what_is_not_read_and_what_is_in_work(tmp_path: Path) -> None:
    app = an_app(tmp_path, committed=4, end=10)
    assert app.lag(REQUESTS) == 6

    slots = [app.acks.add(REQUESTS, offset) for offset in (4, 5, 6)]
    assert app.lag(REQUESTS) == 6
    assert slots[1] is not None
    app.acks.done(slots[1])  # behind an unfinished one it is not acked
    assert app.lag(REQUESTS) == 6
    assert slots[0] is not None
    app.acks.done(slots[0])
    assert app.lag(REQUESTS) == 4


@pytest.mark.parametrize(("committed", "end"), [(None, None), (None, 10), (10, None), (10, 10)])
def test_it_is_nothing_while_nothing_is_known_to_wait(tmp_path: Path, committed: int | None, end: int | None) -> None:
    assert an_app(tmp_path, committed=committed, end=end).lag(REQUESTS) == 0


def test_a_partition_of_somebody_else_has_none(tmp_path: Path) -> None:
    assert an_app(tmp_path, committed=4, end=10).lag(TP("email.requested", 1)) == 0
