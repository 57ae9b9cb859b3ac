"""The provider's words in an error body, made fit to be kept."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.provider.sendgrid import reason_in


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(
            b'{"errors":[{"message":"The subject is required.","field":"subject","help":null}]}',
            "subject: The subject is required.",
            id="message and field",
        ),
        pytest.param(b'{"errors":[{"message":"No.","field":null}]}', "No.", id="field null"),
        pytest.param(b'{"errors":[{"message":"No.","field":"null"}]}', "No.", id="field is the word null"),
        pytest.param(b'{"errors":[{"message":"A."},{"message":"B."}]}', "A.; B.", id="several errors"),
        pytest.param(
            b'{"errors":[{"message":"<ada@example.com> is bad, key SG.abc-d.ef_g"}]}',
            "<[address]> is bad, key [key]",
            id="no address and no key",
        ),
        pytest.param(b'{"errors":[{"message":"a\\r\\nb\\u202ec"}]}', "a b c", id="one line without tricks"),
        pytest.param(b'{"errors":[{"message":7}]}', None, id="a message that is no text"),
        pytest.param(b'{"errors":[]}', None, id="no errors"),
        pytest.param(b'{"errors":{}}', None, id="another shape"),
        pytest.param(b"<html>413</html>", None, id="HTML explains nothing"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_the_reason_is_what_the_provider_said_and_nothing_else(body: bytes, reason: str | None) -> None:
    assert reason_in(body) == reason


@given(st.binary(max_size=300) | st.lists(st.text(), max_size=9).map(
    lambda said: msgspec.json.encode({"errors": [{"message": text, "field": text} for text in said]})
))  # fmt: skip
def test_any_body_gives_a_short_line_or_nothing(body: bytes) -> None:
    reason = reason_in(body)

    assert reason is None or (0 < len(reason) <= 500 and "\n" not in reason)
    if reason is not None:
        msgspec.json.encode(reason)
