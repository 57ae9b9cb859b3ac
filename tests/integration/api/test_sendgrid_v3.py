"""SendGrid's own request, and its own Python client, against us: what it asks for is what is recorded."""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
from sendgrid import SendGridAPIClient
from sendgrid.helpers import mail as helpers

from api import controls
from mailstream.domain import codec
from mailstream.domain.request import Address, Batch, EmailRequest
from mailstream.settings import Settings
from tests.support.api import Api, Requests, a_server, an_api, failing_appends


def a_mail(**members: Any) -> dict[str, Any]:
    return {
        "personalizations": [{"to": [{"email": "ada@example.com"}]}],
        "from": {"email": "sender@example.com", "name": "Shop"},
        "subject": "Hello",
        "content": [{"type": "text/plain", "value": "Hi"}],
    } | members


def to(*addresses: str, **members: Any) -> dict[str, Any]:
    return {"to": [{"email": address} for address in addresses], **members}


async def send(api: Api, **members: Any) -> Any:
    return await api.http.post("/v3/mail/send", json=a_mail(**members))


async def recorded(requests: Requests) -> list[EmailRequest]:
    """The emails of the next record."""
    record = codec.decode_requested((await requests.next())[0])
    assert isinstance(record, EmailRequest | Batch)
    return list(record.items) if isinstance(record, Batch) else [record]


async def test_a_mail_is_a_202_with_our_id_and_an_empty_body(settings: Settings) -> None:
    async with an_api(settings) as api, Requests(settings) as requests:
        answer = await send(api)

        assert (answer.status_code, answer.content) == (202, b"")
        [email] = await recorded(requests)
        assert email.id == answer.headers["X-Message-Id"]
        assert (await api.see(email.id)).json()["status"] == "QUEUED"
        assert (email.source, email.tenant, email.from_) == (
            "POST /v3/mail/send", "dev", Address("sender@example.com", "Shop"),
        )  # fmt: skip


async def test_each_recipient_gets_an_email_and_copies_ride_with_the_first(settings: Settings) -> None:
    async with an_api(settings) as api, Requests(settings) as requests:
        one = to("a@example.com", "b@example.com", cc=[{"email": "c@example.com"}], bcc=[{"email": "d@example.com"}],
                 subject="Mine", headers={"X-B": "2"}, custom_args={"order": "17"})  # fmt: skip

        answer = await send(
            api,
            personalizations=[one, to("e@example.com")],
            headers={"X-A": "1"},
            custom_args={"shop": "x", "order": "0"},
        )

        emails = await recorded(requests)
        assert answer.headers["X-Message-Id"] == emails[0].id
        assert [(email.to.email, len(email.cc), len(email.bcc), email.subject) for email in emails] == [
            ("a@example.com", 1, 1, "Mine"), ("b@example.com", 0, 0, "Mine"), ("e@example.com", 0, 0, "Hello"),
        ]  # fmt: skip
        assert emails[0].headers == {"X-A": "1", "X-B": "2"}
        assert emails[0].provider_options["custom_args"] == {"shop": "x", "order": "17"}
        assert emails[2].provider_options["custom_args"] == {"shop": "x", "order": "0"}


async def test_what_goes_to_sendgrid_only_is_passed_through(settings: Settings) -> None:
    passing = {
        "asm": {"group_id": 5}, "ip_pool_name": "pool", "tracking_settings": {"click_tracking": {"enable": False}},
        "reply_to_list": [{"email": "r@example.com"}], "sections": {"-a-": "b"},
    }  # fmt: skip
    async with an_api(settings) as api, Requests(settings) as requests:
        one = to("a@example.com", substitutions={"-name-": "Ada"})

        await send(api, personalizations=[one], template_id="1234", categories=["a", "b"], **passing)

        [email] = await recorded(requests)
        assert email.provider_options == passing | {"substitutions": {"-name-": "Ada"}}
        assert (email.provider_template, email.tags) == ("1234", ("a", "b"))


async def test_the_sandbox_is_a_200_and_a_test_email(settings: Settings) -> None:
    async with an_api(settings) as api, Requests(settings) as requests:
        answer = await send(api, mail_settings={"sandbox_mode": {"enable": True}})

        assert answer.status_code == 200
        assert (await recorded(requests))[0].test


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nobody": ({"personalizations": []}, "personalizations"),
    "no address": ({"personalizations": [to("nobody")]}, "personalizations.0.to.0.email"),
    "an address twice": ({"personalizations": [to("a@example.com", "A@example.com")]}, "personalizations.0.to.1"),
    "a bad third": (
        {"personalizations": [to("a@example.com"), to("b@example.com", "c@example.com", "x@@")]},
        "personalizations.1.to.2.email",
    ),
    "no sender": ({"from": {}}, "from.email"),
    "no subject": ({"subject": None}, "subject"),
    "no content": ({"content": []}, "content"),
    "a calendar": ({"content": [{"type": "text/calendar", "value": "x"}]}, "content.0.type"),
    "a category twice": ({"categories": ["a"] * 2}, "categories.1"),
    "our own argument": ({"custom_args": {"ms_id": "x"}}, "custom_args"),
    "SendGrid's own header": ({"headers": {"Subject": "x"}}, "headers.Subject"),
    "no base64": ({"attachments": [{"content": "%", "filename": "a"}]}, "attachments.0.content"),
    "words for a time": ({"send_at": "tomorrow"}, "send_at"),
    "an unknown member": ({"bogus": 1}, "bogus"),
}


async def test_mistakes_are_told_as_sendgrid_tells_them(settings: Settings) -> None:
    async with an_api(settings) as api:
        for name, (members, field) in MISTAKES.items():
            answer = await send(api, **members)

            assert answer.status_code == 400, name
            assert field in [error["field"] for error in answer.json()["errors"]], name
            assert all(error["message"] for error in answer.json()["errors"])


async def test_every_other_error_has_sendgrids_form_too(settings: Settings) -> None:
    async with an_api(settings) as api:
        wrong_key = await api.http.post("/v3/mail/send", json=a_mail(), headers={"Authorization": "Bearer x"})
        foreign = await send(api, **{"from": {"email": "evil@example.org"}})
        no_json = await api.http.post("/v3/mail/send", content=b"{")
        nowhere = await api.http.post("/v3/templates", json={})

        assert [each.status_code for each in (wrong_key, foreign, no_json, nowhere)] == [401, 403, 400, 404]
        for each in (wrong_key, foreign, no_json, nowhere):
            assert each.json()["errors"][0]["message"]


async def test_a_batch_id_cancels_what_waits_under_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "SECONDS", 0.5)
    async with an_api(settings) as api, Requests(settings) as requests:
        batch_id = (await api.http.post("/v3/mail/batch")).json()["batch_id"]
        assert (await api.http.get(f"/v3/mail/batch/{batch_id}")).json() == {"batch_id": batch_id}
        in_an_hour = int(time.time()) + 3600
        await send(api, batch_id=batch_id, send_at=in_an_hour)
        await send(api, send_at=in_an_hour)
        [email], _ = await recorded(requests), await recorded(requests)
        assert "batch_id" not in email.provider_options

        answer = await api.http.post("/v3/user/scheduled_sends", json={"batch_id": batch_id, "status": "cancel"})

        assert answer.status_code == 201
        control = codec.decode_requested((await requests.next())[0])
        assert (control.kind, control.id) == ("cancel", email.id)  # type: ignore[union-attr]
        paused = await api.http.post("/v3/user/scheduled_sends", json={"batch_id": batch_id, "status": "pause"})
        assert paused.status_code == 400


async def test_sendgrids_python_client_works_unchanged(settings: Settings) -> None:
    message = helpers.Mail(
        from_email=helpers.From("sender@example.com", "Shop"),
        to_emails=[helpers.To("ada@example.com", "Ada", dynamic_template_data={"n": 1}, p=0),
                   helpers.To("bob@example.com", "Bob", p=1)],
        subject="Hello", plain_text_content="Hi", html_content="<p>Hi</p>", is_multiple=True,
    )  # fmt: skip
    message.reply_to = helpers.ReplyTo("reply@example.com")
    message.add_attachment(helpers.Attachment(helpers.FileContent("JVBERg=="), helpers.FileName("a.pdf"),
                                              helpers.FileType("application/pdf"), helpers.Disposition("attachment")))  # fmt: skip
    message.add_category(helpers.Category("welcome"))
    message.add_custom_arg(helpers.CustomArg("order", "17"))
    message.template_id = "d-0123456789abcdef0123456789abcdef"
    async with a_server(settings) as api, Requests(settings) as requests:
        client = SendGridAPIClient("dev", host=str(api.http.base_url))

        answer = await asyncio.to_thread(client.send, message)

        assert answer.status_code == 202
        emails = await recorded(requests)
        assert answer.headers["X-Message-Id"] == emails[0].id
        assert sorted((email.to.email, email.to.name, email.data) for email in emails) == [
            ("ada@example.com", "Ada", {"n": 1}), ("bob@example.com", "Bob", {}),
        ]  # fmt: skip
        assert emails[0].attachments[0].filename == "a.pdf"
        assert (emails[0].tags, emails[0].reply_to) == (("welcome",), Address("reply@example.com"))


def too_many_for_one_record(**last: Any) -> dict[str, Any]:
    """Three emails that go into the log one by one: together they have more bytes than a record may have."""
    return a_mail(
        personalizations=[to(f"user{number}@example.com") for number in range(2)] + [to("user2@example.com", **last)],
        content=[{"type": "text/plain", "value": "x" * 400_000}],
    )


async def emails_in(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.http.get("/v1/emails")).json()["data"]
    return found


async def test_one_that_is_too_large_keeps_all_of_them_out_of_the_log(settings: Settings) -> None:
    async with an_api(settings) as api:
        mail = too_many_for_one_record(dynamic_template_data={"a": "x" * 600_000})
        mail |= {"template_id": "d-0123456789abcdef0123456789abcdef"}

        answer = await api.http.post("/v3/mail/send", json=mail)

        assert answer.status_code == 413
        assert await emails_in(api) == []


async def test_a_quota_that_has_no_room_for_all_lets_none_in(settings: Settings, tmp_path: Path) -> None:
    hashed = hashlib.sha256(b"small").hexdigest()
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"keys:\n- {{name: small, sha256: {hashed}, tenant: small, scopes: [send, read], quota: 3}}\n")
    limited = settings.model_copy(update={"api_keys_file": str(keys)})
    async with an_api(limited, headers={"Authorization": "Bearer small"}) as api:
        assert (await send(api)).status_code == 202

        answer = await api.http.post("/v3/mail/send", json=too_many_for_one_record())

        assert answer.status_code == 429
        assert len(await emails_in(api)) == 1


async def test_only_an_outage_leaves_a_part_and_the_same_key_goes_on_with_it(
    settings: Settings, tmp_path: Path
) -> None:
    hashed = hashlib.sha256(b"small").hexdigest()
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"keys:\n- {{name: small, sha256: {hashed}, tenant: small, scopes: [send, read], quota: 3}}\n")
    limited = settings.model_copy(update={"api_keys_file": str(keys)})
    async with an_api(limited, headers={"Authorization": "Bearer small"}) as api:
        key = {"Idempotency-Key": "k"}
        with failing_appends(api, b"user1@example.com"):
            partly = await api.http.post("/v3/mail/send", json=too_many_for_one_record(), headers=key)
        without = await api.http.post(
            "/v3/mail/send", json=a_mail(personalizations=[to("other@example.com")]), headers=key
        )
        again = await api.http.post("/v3/mail/send", json=too_many_for_one_record(), headers=key)
        replayed = await api.http.post("/v3/mail/send", json=too_many_for_one_record(), headers=key)

        assert partly.status_code == 503
        assert "same Idempotency-Key" in partly.json()["errors"][0]["message"]
        assert without.status_code == 400, "another body under the key"
        assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (202, None)
        assert (replayed.status_code, replayed.headers["Idempotent-Replayed"]) == (202, "true")
        assert len(await emails_in(api)) == 3
        assert (await send(api)).status_code == 429, "each of the three counts once"


async def test_what_is_nested_too_deep_for_the_worker_gets_no_202(settings: Settings) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"a": deep}
    async with an_api(settings) as api:
        passing = await send(api, tracking_settings=deep)
        data = await send(api, template_id="d-1", personalizations=[to("a@example.com", dynamic_template_data=deep)])

        assert (passing.status_code, passing.json()["errors"][0]["field"]) == (400, None)
        assert (data.status_code, data.json()["errors"][0]["field"]) == (
            400,
            "personalizations.0.dynamic_template_data",
        )
        assert await emails_in(api) == []
