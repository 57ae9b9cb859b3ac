"""The read replica of the statuses: by rank, never by arrival, and nothing that is no record changes it."""

from msgspec import structs

from api.view.statuses import StatusView
from mailstream.domain import codec
from mailstream.domain.packed import Packer
from mailstream.domain.status import EmailStatus, Status, rank_of
from tests.support import builders

QUEUED = builders.a_status()
SENT = structs.replace(QUEUED, status=Status.SENT, rank=rank_of(Status.SENT, 1), attempt=1)
KEY = QUEUED.id.encode()


def _apply(view: StatusView, status: EmailStatus) -> bool:
    value = codec.encode(status)
    [packed] = Packer().pack_all([value])
    return view.apply(KEY, value, packed) is not None


def test_a_later_record_of_a_lower_rank_changes_nothing() -> None:
    view = StatusView()
    assert _apply(view, SENT)
    assert not _apply(view, QUEUED)
    assert view.get(KEY) == SENT


def test_a_tombstone_forgets_what_was_known_and_tells_what_it_was() -> None:
    view = StatusView()
    _apply(view, SENT)
    change = view.apply(KEY, None, b"")
    assert change is not None
    before, after = change
    assert before is not None
    assert (before.status, after) == (Status.SENT, None)
    assert KEY not in view
    assert view.apply(KEY, None, b"") is None


def test_bytes_that_are_no_status_change_nothing() -> None:
    view = StatusView()
    _apply(view, SENT)
    for value in (b"", b"{}", b"\xff", b"[1]"):
        assert view.apply(KEY, value, value) is None
    assert view.get(KEY) == SENT
