"""A dead letter keeps the bytes, says where they came from and why they were not taken."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from mailstream.domain.dead_letter import DeadLetter, Reason, dead_letter_in
from mailstream.domain.record import Record
from mailstream.domain.topics import MAX_DEAD_LETTER_BYTES, REJECTED


def a_dead_letter(value: bytes | None = b"{") -> DeadLetter:
    record = Record("email.requested", 3, 17, 1_764_500_000_000, b"k", value, {})
    return DeadLetter(Reason.NOT_JSON, "the bytes are no JSON", record)


def test_the_bytes_are_kept_as_they_came() -> None:
    letter = a_dead_letter(b"\x00\xff{")

    assert letter.value() == b"\x00\xff{"
    assert not letter.is_truncated()


def test_its_headers_are_read_by_tools_that_know_springs_names() -> None:
    assert dict(a_dead_letter().headers()) == {
        "dlt-original-topic": b"email.requested",
        "dlt-original-partition": b"3",
        "dlt-original-offset": b"17",
        "dlt-original-timestamp": b"1764500000000",
        "mailstream-reason": b"NOT_JSON",
        "mailstream-detail": b"the bytes are no JSON",
    }


def test_of_a_very_large_record_the_beginning_is_kept_and_its_size_told() -> None:
    letter = a_dead_letter(b"x" * (MAX_DEAD_LETTER_BYTES + 1))

    assert len(letter.value() or b"") == MAX_DEAD_LETTER_BYTES
    assert dict(letter.headers())["mailstream-truncated"] == str(MAX_DEAD_LETTER_BYTES + 1).encode()


def test_what_is_kept_fits_the_topic_with_its_headers() -> None:
    letter = a_dead_letter(b"x" * (MAX_DEAD_LETTER_BYTES * 2))
    size = len(letter.value() or b"") + sum(len(name) + len(value) for name, value in letter.headers())

    assert size < int(dict(REJECTED.config)["max.message.bytes"])


def test_a_record_without_a_value_stays_one() -> None:
    assert a_dead_letter(None).value() is None
    assert not a_dead_letter(None).is_truncated()


def test_it_is_read_again_with_the_headers_of_the_record_itself() -> None:
    letter = a_dead_letter()
    own = replace(letter.record, headers={"ce_id": b"7"})

    found = dead_letter_in(as_kept(letter, [*own.headers.items(), *letter.headers()]))

    assert found == DeadLetter(letter.reason, letter.detail, own)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dlt-original-topic", None),
        ("dlt-original-offset", b"far"),
        ("dlt-original-timestamp", None),
        ("mailstream-reason", b"OF_A_VERSION_TO_COME"),
    ],
)
def test_what_is_not_ours_is_no_dead_letter(name: str, value: bytes | None) -> None:
    letter = a_dead_letter()
    headers = {each: content for each, content in letter.headers() if each != name}

    if value is not None:
        headers[name] = value

    assert dead_letter_in(as_kept(letter, headers.items())) is None


def as_kept(letter: DeadLetter, headers: Iterable[tuple[str, bytes]]) -> Record:
    return Record(REJECTED.name, 1, 5, 0, letter.key(), letter.value(), dict(headers))
