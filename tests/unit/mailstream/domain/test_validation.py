"""Every mistake of a request is named with its place; nothing that breaks out of a header passes."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain.request import Address, Attachment, EmailRequest
from mailstream.domain.validation import METADATA_BYTES, fingerprint_of, validate

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
PDF = base64.b64encode(b"%PDF").decode()


def a_request(**members: Any) -> EmailRequest:
    return EmailRequest(
        **{"to": Address("ada@example.com", "Ada"), "subject": "Hello", "text": "Your order has left."} | members
    )


def codes(**members: Any) -> list[tuple[str, str]]:
    return [(mistake.pointer, mistake.code) for mistake in validate(a_request(**members), now=NOW)]


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({}, id="subject and text"),
        pytest.param({"text": None, "html": "<p>Hello</p>"}, id="subject and html"),
        pytest.param({"subject": None, "text": None, "template": "welcome", "data": {"n": 1}}, id="a template"),
        pytest.param({"subject": None, "text": None, "provider_template": "d-1"}, id="a template of the provider"),
        pytest.param({"template": "welcome"}, id="a template that was rendered before"),
        pytest.param({"subject": "Grüße 👩‍👧 שלום"}, id="a subject in any script, joined emoji too"),
        pytest.param({"subject": "é" * 499}, id="a subject of 998 bytes"),
        pytest.param({"headers": {"X-Order": "17"}}, id="a header of the caller's own"),
        pytest.param({"attachments": (Attachment("a.pdf", PDF, "application/pdf"),)}, id="an attachment"),
        pytest.param({"cc": (Address("b@example.com"),), "bcc": (Address("c@example.com"),)}, id="copies"),
        pytest.param({"send_at": NOW + timedelta(days=365)}, id="a year ahead"),
        pytest.param({"expires_at": NOW - timedelta(days=1)}, id="read late: that ends EXPIRED, it is no mistake"),
        pytest.param({"reply_to": Address("o'hara@example.com", "Ann, of Hull")}, id="a comma where no list is"),
        pytest.param({"metadata": {"order": "a\nb"}}, id="any text as a value of metadata"),
    ],
)
def test_a_mail_that_can_be_sent_has_no_mistake(members: dict[str, Any]) -> None:
    assert codes(**members) == []


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param({"to": Address("ada")}, ("/to/email", "bad_address"), id="no address"),
        pytest.param({"to": Address("ada@pаypal.com")}, ("/to/email", "bad_address"), id="mixed scripts"),
        pytest.param({"to": Address("a@example.com", "A; B")}, ("/to/name", "bad_name"), id="a list in a name"),
        pytest.param(
            {"to": Address("a@example.com", "A\r\nB")}, ("/to/name", "control_character"), id="CRLF in a name"
        ),
        pytest.param({"from_": Address("jörg@example.com")}, ("/from/email", "not_ascii"), id="Unicode sender"),
        pytest.param({"reply_to": Address("nobody")}, ("/reply_to/email", "bad_address"), id="bad reply_to"),
        pytest.param({"cc": (Address("ADA@example.com"),)}, ("/cc/0/email", "repeated"), id="cc repeats to"),
        pytest.param(
            {"cc": (Address("b@example.com"),), "bcc": (Address("B@Example.com"),)},
            ("/bcc/0/email", "repeated"),
            id="bcc repeats cc in another spelling",
        ),
        pytest.param(
            {"cc": tuple(Address(f"a{n}@example.com") for n in range(1000))}, ("/cc", "too_many"), id="1,001 addresses"
        ),
        pytest.param({"subject": None}, ("/subject", "missing"), id="no subject"),
        pytest.param({"subject": ""}, ("/subject", "empty"), id="an empty subject"),
        pytest.param({"subject": "é" * 500}, ("/subject", "too_long"), id="a subject of 1,000 bytes"),
        pytest.param({"subject": "Hi\u202egpj"}, ("/subject", "control_character"), id="bidi in a subject"),
        pytest.param({"text": None}, ("/text", "missing"), id="no content"),
        pytest.param({"text": ""}, ("/text", "empty"), id="empty text"),
        pytest.param({"html": ""}, ("/html", "empty"), id="empty html"),
        pytest.param(
            {"template": "a", "provider_template": "d-1"}, ("/provider_template", "conflict"), id="two templates"
        ),
        pytest.param({"data": {"n": 1}}, ("/data", "conflict"), id="data without a template"),
        pytest.param({"headers": {"X A": "1"}}, ("/headers", "bad_header_name"), id="a space in a header name"),
        pytest.param({"headers": {"X-Sg-EID": "1"}}, ("/headers/X-Sg-EID", "forbidden_header"), id="SendGrid's own"),
        pytest.param({"headers": {"BCC": "1"}}, ("/headers/BCC", "forbidden_header"), id="a hidden recipient"),
        pytest.param({"headers": {"X/~": "a\nb"}}, ("/headers/X~1~0", "control_character"), id="header injection"),
        pytest.param({"headers": {"X-A": "1", "x-a": "2"}}, ("/headers/x-a", "repeated"), id="a header twice"),
        pytest.param(
            {"attachments": (Attachment("a.pdf", "%"),)}, ("/attachments/0/content", "not_base64"), id="no base64"
        ),
        pytest.param(
            {"attachments": (Attachment("a.pdf", PDF[:-1]),)}, ("/attachments/0/content", "not_base64"), id="cut base64"
        ),
        pytest.param({"attachments": (Attachment("a.pdf", ""),)}, ("/attachments/0/content", "empty"), id="empty file"),
        pytest.param(
            {"attachments": (Attachment("a\nb", PDF),)},
            ("/attachments/0/filename", "control_character"),
            id="file name",
        ),
        pytest.param(
            {"attachments": (Attachment("a", PDF, "text/html; x=y"),)},
            ("/attachments/0/type", "bad_media_type"),
            id="media type with parameters",
        ),
        pytest.param(
            {"attachments": (Attachment("a", PDF, disposition="hidden"),)},
            ("/attachments/0/disposition", "bad_value"),
            id="unknown disposition",
        ),
        pytest.param({"tags": tuple("abcdefghijk")}, ("/tags", "too_many"), id="11 tags"),
        pytest.param({"tags": ("x" * 256,)}, ("/tags/0", "too_long"), id="a long tag"),
        pytest.param({"tags": ("a", "a")}, ("/tags/1", "repeated"), id="a tag twice"),
        pytest.param({"metadata": {"ms_id": "x"}}, ("/metadata/ms_id", "reserved"), id="our own argument"),
        pytest.param({"metadata": {"a": "x" * METADATA_BYTES}}, ("/metadata", "too_long"), id="large metadata"),
        pytest.param({"reference": "a\nb"}, ("/reference", "control_character"), id="two lines of reference"),
        pytest.param({"send_at": NOW + timedelta(days=367)}, ("/send_at", "too_far"), id="beyond a year"),
        pytest.param({"send_at": datetime(2026, 12, 2)}, ("/send_at", "no_time_zone"), id="a time without offset"),
        pytest.param({"send_at": NOW, "expires_at": NOW}, ("/expires_at", "bad_value"), id="expires before it starts"),
    ],
)
def test_a_mistake_is_named_with_its_place(members: dict[str, Any], expected: tuple[str, str]) -> None:
    assert expected in codes(**members)


def test_all_mistakes_are_named_at_once() -> None:
    found = codes(to=Address("nobody"), subject="a\rb", tags=("",))

    assert found == [("/to/email", "bad_address"), ("/subject", "control_character"), ("/tags/0", "empty")]


@given(
    place=st.sampled_from(
        ["subject", "reference", "name", "tag", "header", "header name", "file name", "metadata key"]
    ),
    bad=st.sampled_from(
        [*map(chr, [*range(32), *range(0x7F, 0xA0)]), *"\u2028\u2029\u061c\u200e\u200f\u202e\u2066\u2069"]
    ),
    before=st.text("ab ", max_size=3),
    after=st.text("ab ", max_size=3),
)
def test_no_control_character_passes_anywhere(place: str, bad: str, before: str, after: str) -> None:
    text = before + bad + after
    members: dict[str, Any] = {
        "subject": {"subject": text},
        "reference": {"reference": text},
        "name": {"to": Address("ada@example.com", text)},
        "tag": {"tags": (text,)},
        "header": {"headers": {"X-A": text}},
        "header name": {"headers": {text: "1"}},
        "file name": {"attachments": (Attachment(text, PDF),)},
        "metadata key": {"metadata": {text: "1"}},
    }[place]

    found = validate(a_request(**members), now=NOW)

    assert found
    assert all(bad not in mistake.pointer + mistake.detail for mistake in found)


@pytest.mark.parametrize("size", [1, 1900, 2048, 4096, 100_000])
def test_the_fingerprint_is_the_sha256_of_the_whole_request(size: int) -> None:
    asked = a_request(text="x" * size)

    assert fingerprint_of(asked) == hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


def test_the_fingerprint_is_of_what_was_asked() -> None:
    asked = a_request(data={"a": 1, "b": 2}, template="x", subject=None, text=None)
    again = a_request(
        data={"b": 2, "a": 1}, template="x", subject=None, text=None, id="em_00000000_a", requested_at=NOW,
        idempotency_key="k", fingerprint="f",
    )  # fmt: skip

    assert fingerprint_of(asked) == fingerprint_of(again)
    assert fingerprint_of(asked) != fingerprint_of(
        a_request(data={"a": 1, "b": 3}, template="x", subject=None, text=None)
    )
