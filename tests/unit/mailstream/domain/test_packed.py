"""Statuses as they are kept in memory: whatever was packed comes back, alone or among many."""

import pytest

from mailstream.domain.packed import Packer, unpack

RECORD = (
    b'{"writer":"mailstream-worker-0/1a2b","id":"em_NUMBER","tenant":"default","status":"SENT","final":true,"rank":2}'
)


def _records(count: int) -> list[bytes]:
    return [RECORD.replace(b"NUMBER", str(number).encode() * (number % 40)) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 49, 50, 1000])
def test_many_that_are_packed_at_once_come_back_in_their_order(count: int) -> None:
    assert [unpack(each) for each in Packer().pack_all(_records(count))] == _records(count)


def test_one_that_is_packed_comes_back_smaller_in_between() -> None:
    [packed] = Packer().pack_all([RECORD])
    assert unpack(packed) == RECORD
    assert len(packed) < len(RECORD) / 2


def test_bytes_that_are_no_record_come_back_too() -> None:
    values = [b"\xff" * 3, b"\0", b"x" * 3_000_000] * 20
    assert [unpack(each) for each in Packer().pack_all(values)] == values
