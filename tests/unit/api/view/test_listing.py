"""Pages come newest first, complete and without repeats, whatever arrives between two of them."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from api.view.brief import Brief
from api.view.listing import Listing, Place, microseconds
from mailstream.domain.status import Status

BEGIN = datetime(2026, 12, 1, tzinfo=UTC)
FAR = 2**62
MOMENTS = st.lists(st.integers(0, 30), max_size=60)


def a_brief(second: int, tenant: str = "shop", reference: str | None = None) -> Brief:
    at = BEGIN + timedelta(seconds=second)
    return Brief(tenant, "00000000", Status.QUEUED, 4, at, at, reference=reference)


def all_pages(listing: Listing, size: int) -> list[bytes]:
    found: list[bytes] = []
    place: Place | None = None
    while page := listing.older("shop", place, -FAR, FAR, size):
        found += [each.key for each in page]
        place = page[-1]
    return found


@given(before=MOMENTS, after=MOMENTS, size=st.integers(1, 7))
def test_pages_hold_every_email_once_newest_first(before: list[int], after: list[int], size: int) -> None:
    listing, made = Listing(lambda _: True), list[tuple[int, bytes]]()
    for number, second in enumerate(before + after):
        if number == len(before):
            listing.loaded()
        made.append((second, b"%04d" % number))
        listing.changed(made[-1][1], None, a_brief(second))
    listing.loaded()

    assert all_pages(listing, size) == [key for _, key in sorted(made, reverse=True)]


def test_an_email_that_arrives_between_two_pages_shifts_nothing() -> None:
    listing = Listing(lambda _: True)
    listing.loaded()
    for second in range(10):
        listing.changed(b"%d" % second, None, a_brief(second))

    first = listing.older("shop", None, -FAR, FAR, 4)
    listing.changed(b"new", None, a_brief(99))
    listing.changed(b"late", None, a_brief(2))
    second_page = listing.older("shop", first[-1], -FAR, FAR, 4)

    assert [each.key for each in first + second_page] == [b"9", b"8", b"7", b"6", b"5", b"4", b"3", b"late"]


def test_since_and_until_bound_a_page() -> None:
    listing = Listing(lambda _: True)
    for second in range(10):
        listing.changed(b"%d" % second, None, a_brief(second))

    since, until = (microseconds(BEGIN + timedelta(seconds=each)) for each in (3, 6))

    assert [each.key for each in listing.older("shop", None, since, until, 9)] == [b"5", b"4", b"3"]


def test_references_are_found_and_forgotten() -> None:
    listing = Listing(lambda _: True)
    for key in (b"a", b"b", b"c"):
        listing.changed(key, None, a_brief(1, reference="order-17"))

    listing.changed(b"b", a_brief(1, reference="order-17"), None)

    assert listing.with_reference("shop", "order-17") == (b"a", b"c")
    assert listing.with_reference("other", "order-17") == ()


def test_removed_ids_do_not_stay_for_ever() -> None:
    gone = range(2000)
    listing = Listing(lambda key: int(key) not in gone)
    for second in range(5000):
        listing.changed(b"%d" % second, None, a_brief(second))

    for second in gone:
        listing.changed(b"%d" % second, a_brief(second), None)

    assert len(all_pages(listing, 100)) < 4000
    assert set(all_pages(listing, 100)) >= {b"%d" % second for second in range(2000, 5000)}
