"""A body becomes a request, or every mistake of it is named at once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.content import Content, parse
from api.keys import DEV_KEY, Key
from api.problems import Code, Problem
from api.schemas import EmailBody
from mailstream.domain.request import Address, EmailRequest, Lane, OnAmbiguous
from mailstream.domain.validation import validate
from mailstream.settings import Settings

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)


def a_body(**members: Any) -> bytes:
    plain = {"to": "ada@example.com", "subject": "Hello", "text": "Hi"}
    return msgspec.json.encode({name: value for name, value in (plain | members).items() if value is not None})


async def settled(body: bytes, caller: Key = DEV_KEY, **settings: Any) -> EmailRequest:
    found = Settings(_env_file=None, **({"sender": "shop@example.com"} | settings))
    return await Content(found).settled(parse(EmailBody, body).request(), caller, NOW, "POST /v1/emails", None)


async def refusal(body: bytes, caller: Key = DEV_KEY, **settings: Any) -> Problem:
    with pytest.raises(Problem) as error:
        await settled(body, caller, **settings)
    return error.value


async def places(body: bytes, **settings: Any) -> list[tuple[str, str]]:
    return [(mistake.pointer, mistake.code) for mistake in (await refusal(body, **settings)).errors]


async def test_everything_of_a_body_is_in_the_request() -> None:
    members = {
        "to": {"email": "Ada@Example.com", "name": "Ada"}, "html": "<p>", "from": {"email": "shop@example.com", "name": "S"},
        "reply_to": "r@example.com", "cc": ["c@example.com"], "bcc": [{"email": "b@example.com"}], "headers": {"X-A": "1"},
        "attachments": [{"filename": "a.pdf", "content": "JVBERg==", "type": "application/pdf", "disposition": "inline",
                         "content_id": "x"}],
        "lane": "bulk", "send_at": "2026-12-02T10:00:00+01:00", "expires_at": "2026-12-03T00:00:00.5Z",
        "reference": "order-17", "tags": ["a"], "metadata": {"k": "v"}, "on_ambiguous": "resend", "test": True,
    }  # fmt: skip

    request = await settled(a_body(**members))

    assert request.to == Address("Ada@Example.com", "Ada")
    assert (request.from_, request.reply_to) == (Address("shop@example.com", "S"), Address("r@example.com"))
    assert (request.cc, request.bcc) == ((Address("c@example.com"),), (Address("b@example.com"),))
    assert request.attachments[0].content_id == "x"
    assert request.send_at == datetime(2026, 12, 2, 9, tzinfo=UTC)
    assert request.expires_at == datetime(2026, 12, 3, 0, 0, 0, 500_000, tzinfo=UTC)
    assert (request.lane, request.on_ambiguous, request.test) == (Lane.BULK, OnAmbiguous.RESEND, True)
    assert (request.reference, request.tags, request.metadata) == ("order-17", ("a",), {"k": "v"})
    assert (request.tenant, request.source, request.requested_at) == ("dev", "POST /v1/emails", NOW)
    assert validate(request, now=NOW) == []


@pytest.mark.parametrize(
    ("members", "place"),
    [
        pytest.param({"to": None}, "/to", id="nobody"),
        pytest.param({"to": ["a@example.com"]}, "/to", id="two recipients"),
        pytest.param({"to": {"email": "a@example.com", "more": 1}}, "/to/more", id="a member too many, deep down"),
        pytest.param({"tenant": "other"}, "/tenant", id="another tenant"),
        pytest.param({"id": "em_0"}, "/id", id="an id of one's own"),
        pytest.param({"subject": 5}, "/subject", id="a number for text"),
        pytest.param({"test": "yes"}, "/test", id="text for a truth"),
        pytest.param({"lane": "fast"}, "/lane", id="no such lane"),
        pytest.param({"send_at": "2026-12-02"}, "/send_at", id="a day"),
        pytest.param({"send_at": "2026-12-02T10:00:00"}, "/send_at", id="a moment without offset"),
        pytest.param({"send_at": 1795000000}, "/send_at", id="seconds"),
        pytest.param({"send_at": "1795000000"}, "/send_at", id="seconds as text"),
        pytest.param({"send_at": "2026-02-30T10:00:00Z"}, "/send_at", id="no such day"),
        pytest.param({"metadata": {"a": 1}}, "/metadata/a", id="a number in metadata"),
        pytest.param({"tags": "a"}, "/tags", id="one tag as text"),
        pytest.param(
            {"attachments": [{"filename": "a"}]}, "/attachments/0/content", id="an attachment without content"
        ),
    ],
)
async def test_a_wrong_shape_is_named_with_its_place(members: dict[str, Any], place: str) -> None:
    assert place in [pointer for pointer, _ in await places(a_body(**members))]


async def test_mistakes_of_content_are_named_all_at_once() -> None:
    found = await places(
        a_body(to="nobody", subject="a\nb", expires_at="2026-11-30T00:00:00Z", cc=["nobody"], template="x", html="y")
    )

    assert {pointer for pointer, _ in found} == {
        "/to/email", "/subject", "/expires_at", "/cc/0/email", "/text", "/html",
    }  # fmt: skip


async def test_a_body_that_is_no_json_is_a_400() -> None:
    for body in (b"", b"{", b"\xff", b'{"to":"a@example.com"', b"[" * 100_000):
        problem = await refusal(body)
        assert problem.code in (Code.NOT_JSON, Code.INVALID)
        assert problem.code.status == (400 if body != b"[" * 100_000 else problem.code.status)


async def test_the_sender_is_the_configured_one_when_none_is_named() -> None:
    assert (await settled(a_body())).from_ == Address("shop@example.com")
    assert ("/from", "missing") in await places(a_body(), sender=None)


async def test_a_key_without_right_to_the_configured_sender_uses_its_own() -> None:
    caller = DEV_KEY.model_copy(update={"senders": ("@example.org", "me@example.net")})
    allowed = ("@example.net", "@example.org", "shop@example.com")

    assert (await settled(a_body(), caller, senders_allowed=allowed)).from_ == Address("me@example.net")


@pytest.mark.parametrize(
    ("sender", "senders_allowed", "senders_of_key", "is_allowed"),
    [
        pytest.param("shop@example.com", (), (), True, id="the configured sender"),
        pytest.param("SHOP@Example.COM", (), (), True, id="in another spelling"),
        pytest.param("other@example.com", (), (), False, id="another one"),
        pytest.param("other@example.com", ("@example.com",), (), True, id="any of an allowed domain"),
        pytest.param("other@sub.example.com", ("@example.com",), (), False, id="a domain below is another one"),
        pytest.param("shop@example.com", ("@example.org",), (), True, id="the configured sender beside others"),
        pytest.param("a@example.com", ("@example.com",), ("b@example.com",), False, id="not this key's"),
        pytest.param(
            "a@example.org", ("@example.com",), ("a@example.org",), False, id="a key allows no more than all may"
        ),
    ],
)
async def test_who_may_send_as_whom(
    sender: str, senders_allowed: tuple[str, ...], senders_of_key: tuple[str, ...], is_allowed: bool
) -> None:
    caller = DEV_KEY.model_copy(update={"senders": senders_of_key})
    body = a_body(**{"from": {"email": sender}})

    if is_allowed:
        assert (await settled(body, caller, senders_allowed=senders_allowed)).from_ == Address(sender)
    else:
        assert (await refusal(body, caller, senders_allowed=senders_allowed)).code is Code.SENDER_NOT_ALLOWED


async def test_a_key_sends_only_to_whom_it_may() -> None:
    caller = DEV_KEY.model_copy(
        update={"recipients_allowed": ("@example.com",), "recipients_denied": ("x@example.com",)}
    )

    await settled(a_body(), caller)
    for body in (a_body(to="a@example.org"), a_body(to="X@example.com"), a_body(bcc=["a@example.org"])):
        assert (await refusal(body, caller)).code is Code.RECIPIENT_NOT_ALLOWED


async def test_the_fingerprint_does_not_depend_on_what_is_filled_in() -> None:
    one, other = await settled(a_body()), await settled(a_body(), sender="other@example.com")

    assert one.from_ != other.from_
    assert one.fingerprint == other.fingerprint != (await settled(a_body(text="Ho"))).fingerprint


async def test_a_template_gives_the_content(tmp_path: Path) -> None:
    folder = tmp_path / "welcome" / "1" / "en"
    folder.mkdir(parents=True)
    (folder / "subject.txt").write_text("Hello {{ name }}")
    (folder / "body.txt").write_text("Welcome, {{ name }}.")
    asked = {"subject": None, "text": None, "template": "welcome"}

    request = await settled(a_body(**asked, data={"name": "Ada"}), templates_dir=str(tmp_path))

    assert (request.subject, request.text) == ("Hello Ada", "Welcome, Ada.")
    assert (request.template, request.data) == ("welcome", {})
    assert validate(request, now=NOW) == []
    for wrong in ({"data": {}}, {"data": {"name": "a\r\nBcc: x"}}, {"template": "nothing"}):
        found = await places(a_body(**(asked | wrong)), templates_dir=str(tmp_path))
        assert [code for _, code in found] == ["template_failed"] or found[0][0] == "/subject"
    assert await places(a_body(**asked)) == [("/template", "template_failed")]


async def test_a_time_too_far_is_refused() -> None:
    far = (NOW + timedelta(days=400)).isoformat()

    assert await places(a_body(send_at=far)) == [("/send_at", "too_far")]
