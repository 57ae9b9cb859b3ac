"""Only what SendGrid signed is believed: not a byte more, not a byte less."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from api.inbound.signature import NotSigned, Replays, Verifier
from mailstream.domain.errors import WrongSettings
from tests.support.signed_post import PUBLIC_KEY, public_key_of, signed

BODY = b'[{"event":"delivered","ms_id":"em_1c2f9a3b_t"}]\r\n'
TIMESTAMP = "1795000000"
SIGNATURE = "MEQCIA02sUMq3+V/Y10pV8TsiRzBGBbSyOcv2yemCkOshaO8AiBmUZVvFXMVVYW4hgi+YHbFVhcaUfPaHQpevI6eGGpqFQ=="
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NOW = 1795000010.0
OTHER = public_key_of(ec.generate_private_key(ec.SECP256R1()))


def verify(*keys: str, **changes: Any) -> float:
    asked = {"body": BODY, "signature": SIGNATURE, "timestamp": TIMESTAMP, "now": NOW} | changes
    return Verifier(keys or (PUBLIC_KEY,), max_age_seconds=90_000).verify(**asked)


def test_the_published_vector_is_believed() -> None:
    assert verify() == 10


def test_old_and_new_key_are_believed_during_a_rotation() -> None:
    assert verify(OTHER, PUBLIC_KEY) == 10


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"body": BODY.rstrip()}, id="the line break stripped"),
        pytest.param({"body": BODY.replace(b":", b": ")}, id="JSON written again"),
        pytest.param({"body": b""}, id="an empty body"),
        pytest.param({"timestamp": TIMESTAMP[:-1], "body": TIMESTAMP[-1:].encode() + BODY}, id="a moved digit"),
        pytest.param({"timestamp": TIMESTAMP + "0"}, id="a digit more"),
        pytest.param({"timestamp": "١٧٩٥٠٠٠٠٠٠"}, id="digits of another script"),
        pytest.param({"timestamp": None}, id="no timestamp"),
        pytest.param({"signature": None}, id="no signature"),
        pytest.param({"signature": ""}, id="an empty signature"),
        pytest.param({"signature": SIGNATURE[:10] + "\n" + SIGNATURE[10:]}, id="junk inside the base64"),
        pytest.param({"signature": "é" + SIGNATURE}, id="no ASCII"),
        pytest.param({"signature": base64.b64encode(b"0" * 70).decode()}, id="bytes that are no signature"),
        pytest.param({"now": 1795000000 + 90_001}, id="older than it may be"),
        pytest.param({"now": 1795000000 - 301}, id="from the future"),
    ],
)
def test_anything_else_is_not(changes: dict[str, Any]) -> None:
    with pytest.raises(NotSigned):
        verify(**changes)


def test_another_key_or_none_at_all_believes_nothing() -> None:
    with pytest.raises(NotSigned):
        verify(OTHER)
    with pytest.raises(NotSigned):
        Verifier((), max_age_seconds=90_000).verify(BODY, SIGNATURE, TIMESTAMP, now=NOW)


def test_the_other_form_of_a_signature_is_the_same_post() -> None:
    """(r, n - s) verifies as well as (r, s): so it is the post that is remembered, not its signature."""
    r, s = decode_dss_signature(base64.b64decode(SIGNATURE))
    twin = base64.b64encode(encode_dss_signature(r, ORDER - s)).decode()
    replays = Replays()
    replays.add(Replays.key_of(BODY, TIMESTAMP))

    assert verify(signature=twin) == 10
    assert Replays.key_of(BODY, TIMESTAMP) in replays


def test_only_so_many_posts_are_remembered() -> None:
    replays = Replays(most=2)
    for key in (b"a", b"b", b"c"):
        replays.add(key)

    assert [key in replays for key in (b"a", b"b", b"c")] == [False, True, True]


@pytest.mark.parametrize("key", ["", "x", "AAAA", base64.b64encode(b"x" * 91).decode()])
def test_a_key_that_is_none_stops_the_process(key: str) -> None:
    with pytest.raises(WrongSettings) as error:
        Verifier((key,), max_age_seconds=90_000)
    assert not key or key not in str(error.value)


@given(body=st.binary(max_size=50), cut=st.integers(0, 49), flip=st.integers(1, 255))
def test_one_changed_byte_is_enough(body: bytes, cut: int, flip: int) -> None:
    headers = signed(body, 1795000000)
    place = cut % max(1, len(body))
    changed = body[:place] + bytes([(body[place] if body else 0) ^ flip]) + body[place + 1 :]

    with pytest.raises(NotSigned):
        verify(body=changed, signature=headers["X-Twilio-Email-Event-Webhook-Signature"])
