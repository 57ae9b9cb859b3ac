"""Every record of ``email.requested`` is read as what it was written as."""

import pytest

from mailstream.domain import codec
from mailstream.domain.request import Address, Batch, Control, ControlKind, EmailRequest

ASKED = EmailRequest(to=Address("ada@example.com"), id="em_1c2f9a3b_x", subject="Hello")


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(ASKED, id="an email"),
        pytest.param(Control(kind=ControlKind.CANCEL, id="em_1c2f9a3b_x", by="ops"), id="a control record"),
        pytest.param(Batch(items=(ASKED, ASKED), id="ba_1", tenant="t"), id="a strict batch"),
    ],
)
def test_a_record_is_read_as_it_was_written(record: EmailRequest | Control | Batch) -> None:
    assert codec.decode_requested(codec.encode(record)) == record
