"""An id says in which partition everything about its email is, and the same request has the same id."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain import email_id
from mailstream.domain.errors import BadEmailId
from mailstream.domain.recipient import partition_of, recipient_hash

recipients = st.emails()
words = st.text(max_size=20)


@given(recipients, words, words, words)
def test_every_way_to_make_an_id_names_the_recipients_partition(
    recipient: str, tenant: str, source: str, key: str
) -> None:
    home = partition_of(recipient_hash(recipient), 16)

    for made in (
        email_id.new(recipient),
        email_id.derived(tenant, source, key, recipient),
        email_id.of_place("email.requested", 3, 17, recipient),
    ):
        assert email_id.is_email_id(made)
        assert email_id.hash_in(made) == recipient_hash(recipient)
        assert email_id.partition_in(made, 16) == home


@given(recipients, words, words, words)
def test_the_same_request_has_the_same_id(recipient: str, tenant: str, source: str, key: str) -> None:
    assert email_id.derived(tenant, source, key, recipient) == email_id.derived(tenant, source, key, recipient)


@given(st.lists(st.tuples(words, words, words, recipients), min_size=2, max_size=2, unique=True))
def test_requests_that_differ_anywhere_have_different_ids(asked: list[tuple[str, str, str, str]]) -> None:
    one, other = (email_id.derived(*request) for request in asked)

    assert one != other


def test_parts_are_not_read_together() -> None:
    assert email_id.derived("ab", "c", "k", "a@b.example") != email_id.derived("a", "bc", "k", "a@b.example")


def test_a_place_gives_the_same_id_each_time_it_is_read() -> None:
    first = email_id.of_place("email.requested", 3, 17, "ada@example.com")

    assert email_id.of_place("email.requested", 3, 17, "ada@example.com") == first
    assert email_id.of_place("email.requested", 3, 18, "ada@example.com") != first


def test_a_new_id_is_never_repeated_and_later_ones_sort_behind() -> None:
    ids = [email_id.new("ada@example.com") for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert sorted(ids) == ids


@pytest.mark.parametrize(
    "text",
    ["", "em_", "em_1c2f9a3b", "em_1c2f9a3b_", "em_1C2F9A3B_x", "em_1c2f9a3_x", "x_1c2f9a3b_x", "em_1c2f9a3b_ä",
     "em_1c2f9a3b_x\n", "em_1c2f9a3b_" + "x" * 65],
)  # fmt: skip
def test_other_text_is_no_id(text: str) -> None:
    assert not email_id.is_email_id(text)
    with pytest.raises(BadEmailId):
        email_id.partition_in(text, 16)


def test_a_hash_that_no_recipient_can_have_is_no_id() -> None:
    assert not email_id.is_email_id("em_80000000_x")
