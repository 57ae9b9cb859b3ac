"""What SendGrid refuses, and the field that it names."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.sendgrid.checks import validate
from dev.sendgrid.shape import Unreadable, Violation, read

NOW = 1_795_000_000.0
ADA = {"email": "ada@example.com"}


def a_mail(**members: Any) -> dict[str, Any]:
    mail = {
        "personalizations": [{"to": [ADA]}],
        "from": {"email": "noreply@example.com"},
        "subject": "Hello",
        "content": [{"type": "text/plain", "value": "Hi"}],
    } | members
    return {name: value for name, value in mail.items() if value is not None}


def to(*personalizations: dict[str, Any]) -> dict[str, Any]:
    return a_mail(personalizations=list(personalizations))


def refused(mail: Any) -> list[Violation]:
    try:
        return validate(read(msgspec.json.encode(mail)), NOW)
    except Unreadable as error:
        return [error.mistake]


@pytest.mark.parametrize(
    "mail",
    [
        pytest.param(a_mail(), id="the least that is enough"),
        pytest.param(a_mail(subject=None, content=None, template_id="d-1"), id="a template gives subject and content"),
        pytest.param(to({"to": [ADA], "subject": "Mine"}) | {"subject": "x"}, id="a subject of its own"),
        pytest.param(to({"to": [ADA], "cc": [{"email": "b@example.com", "name": "B"}], "bcc": [{"email": "c@example.com"}]}),
                     id="copies"),
        pytest.param(a_mail(categories=[f"c{n}" for n in range(10)]), id="ten categories"),
        pytest.param(a_mail(send_at=int(NOW) + 72 * 3600), id="72 hours ahead"),
        pytest.param(a_mail(custom_args={"k": "v" * 9998}), id="9,999 bytes of custom args"),
        pytest.param(to(*({"to": [{"email": f"a{n}@example.com"}]} for n in range(1000))), id="1,000 recipients"),
        pytest.param(to({"to": [{"email": "jörg@example.com"}]}), id="a recipient with Unicode"),
        pytest.param(a_mail(headers={"X-Order": "17"}, asm={"group_id": 1}, ip_pool_name="p", batch_id="b",
                            tracking_settings={"click_tracking": {"enable": True, "enable_text": False}},
                            mail_settings={"footer": {"enable": True, "text": "t"}}), id="options"),
    ],
)  # fmt: skip
def test_what_sendgrid_documents_is_taken(mail: dict[str, Any]) -> None:
    assert refused(mail) == []


@pytest.mark.parametrize(
    ("mail", "field"),
    [
        pytest.param(a_mail(**{"from": None}), "from", id="no from"),
        pytest.param(a_mail(**{"from": {"name": "Shop"}}), "from.email", id="a from without address"),
        pytest.param(a_mail(**{"from": {"email": "jörg@example.com"}}), "from.email", id="Unicode in from"),
        pytest.param(a_mail(**{"from": {"email": "nobody"}}), "from.email", id="a from that is no address"),
        pytest.param(a_mail(personalizations=None), "personalizations", id="no personalizations"),
        pytest.param(to(), "personalizations", id="empty personalizations"),
        pytest.param(to(*({"to": [{"email": f"a{n}@example.com"}]} for n in range(1001))), "personalizations",
                     id="1,001 personalizations"),
        pytest.param(to({"to": [{"email": f"a{n}@example.com"} for n in range(1001)]}), "personalizations",
                     id="1,001 recipients"),
        pytest.param(to({}), "personalizations.0.to", id="no to"),
        pytest.param(to({"to": []}), "personalizations.0.to", id="an empty to"),
        pytest.param(to({"to": [ADA]}, {"to": [{"email": "x y"}]}), "personalizations.1.to.0.email", id="no address"),
        pytest.param(to({"to": [ADA], "cc": [{"email": "ADA@example.com"}]}), "personalizations.0.cc.0",
                     id="one address twice in a personalization"),
        pytest.param(to({"to": [ADA]}, {"to": [ADA]}), "personalizations.1.to.0", id="one address twice in a request"),
        pytest.param(to({"to": [ADA | {"name": "Lovelace, Ada"}]}), "personalizations.0.to.0.name", id="a comma"),
        pytest.param(to({"to": [ADA], "bcc": [{"email": "b@example.com", "name": "a;b"}]}),
                     "personalizations.0.bcc.0.name", id="a semicolon"),
        pytest.param(a_mail(subject=None), "subject", id="no subject"),
        pytest.param(a_mail(subject=""), "subject", id="an empty subject"),
        pytest.param(a_mail(content=None), "content", id="no content"),
        pytest.param(a_mail(content=[{"type": "text/plain", "value": ""}]), "content.0", id="empty content"),
        pytest.param(a_mail(content=[{"type": "text/html", "value": "a"}, {"type": "text/plain", "value": "b"}]),
                     "content", id="plain text behind HTML"),
        pytest.param(a_mail(content=[{"type": "text/html", "value": "a"}] * 2), "content", id="HTML twice"),
        pytest.param(to({"to": [ADA], "dynamic_template_data": {"a": 1}}), "personalizations.0.dynamic_template_data",
                     id="template data without a template"),
        pytest.param(to({"to": [ADA], "substitutions": {"-a-": "b"}}) | {"template_id": "d-1"},
                     "personalizations.0.substitutions", id="substitutions with a dynamic template"),
        pytest.param(a_mail(reply_to={"email": "x"}), "reply_to.email", id="a reply_to that is no address"),
        pytest.param(a_mail(reply_to=ADA, reply_to_list=[ADA]), "reply_to", id="both kinds of reply_to"),
        *(pytest.param(a_mail(headers={name: "x"}), f"headers.{name}", id=f"header {name}")
          for name in ("x-sg-id", "X-SG-EID", "Received", "DKIM-Signature", "content-type", "Content-Transfer-Encoding",
                       "To", "FROM", "subject", "Reply-To", "cc", "BCC")),
        pytest.param(to({"to": [ADA], "headers": {"To": "x"}}), "personalizations.0.headers.To", id="the same further in"),
        pytest.param(a_mail(headers={"X Y": "x"}), "headers", id="no name of a header"),
        pytest.param(a_mail(categories=[f"c{n}" for n in range(11)]), "categories", id="eleven categories"),
        pytest.param(a_mail(categories=["a", "a"]), "categories", id="one category twice"),
        pytest.param(a_mail(categories=["c" * 256]), "categories.0", id="a long category"),
        pytest.param(a_mail(custom_args={"k": "v" * 9999}), "personalizations.0.custom_args",
                     id="10,000 bytes of custom args"),
        pytest.param(a_mail(custom_args={"k": 1}), "custom_args", id="a custom arg that is no string"),
        pytest.param(a_mail(send_at=int(NOW) + 72 * 3600 + 1), "send_at", id="more than 72 hours ahead"),
        pytest.param(to({"to": [ADA], "send_at": int(NOW) + 10**6}), "personalizations.0.send_at",
                     id="the same in a personalization"),
        pytest.param(a_mail(attachments=[{"content": "%%%", "filename": "a"}]), "attachments.0.content",
                     id="an attachment that is no base64"),
        pytest.param(a_mail(attachments=[{"content": "aGk=", "filename": ""}]), "attachments.0.filename",
                     id="an attachment without name"),
        pytest.param(a_mail(attachments=[{"filename": "a"}]), "attachments.0.content", id="an attachment without content"),
        pytest.param(a_mail(surprise=1), "surprise", id="an unknown member"),
        pytest.param(to({"to": [ADA], "too": []}), "personalizations.0.too", id="an unknown member further in"),
        pytest.param([], None, id="no object"),
    ],
)  # fmt: skip
def test_what_sendgrid_refuses_is_refused_with_the_field(mail: Any, field: str | None) -> None:
    mistakes = refused(mail)

    assert mistakes
    assert all(mistake.message for mistake in mistakes)
    if field == "custom_args":
        assert mistakes[0].field is not None
        assert mistakes[0].field.startswith("custom_args")
    else:
        assert field in {mistake.field for mistake in mistakes}


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([
        "personalizations", "to", "email", "from", "content", "headers", "send_at", "x",
    ]) | st.text(), inner),
).map(msgspec.json.encode))  # fmt: skip
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Unreadable):
        assert all(mistake.message for mistake in validate(read(body), NOW))
