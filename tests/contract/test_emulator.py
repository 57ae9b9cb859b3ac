"""The SendGrid emulator: its checks and answers, seen by SendGrid's own client and on the wire."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from typing import Any

import httpx
import msgspec
import pytest
import sendgrid
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pydantic import SecretStr
from python_http_client.exceptions import BadRequestsError, UnauthorizedError
from sendgrid.helpers.eventwebhook import EventWebhook
from sendgrid.helpers.mail import Content, CustomArg, From, Mail, MailSettings, SandBoxMode, Subject, To

from mailstream.domain.attempt import Outcome
from mailstream.domain.request import Address, EmailRequest
from streams.core.outcome import CutOff, ProviderAnswer, Responded, TimedOut, classify, pause_seconds
from streams.provider.sendgrid import Deadlines, SendGrid
from tests.support.emulator import EmulatorAtWork, an_emulator
from tests.support.wild_server import a_closed_port

QUICK = Deadlines(connect=3, write=1, read=1, explanation=0.3)
HEADERS = {"Authorization": "Bearer SG.any"}


def a_mail(**members: Any) -> dict[str, Any]:
    return {
        "personalizations": [{"to": [{"email": "ada@example.com"}]}],
        "from": {"email": "noreply@example.com"},
        "subject": "Hello",
        "content": [{"type": "text/plain", "value": "Hi"}],
        **members,
    }


async def post(emulator: EmulatorAtWork, mail: Any, **headers: str) -> httpx.Response:
    return await emulator.http.post("/v3/mail/send", json=mail, headers=HEADERS | headers)


async def answer_to(emulator: EmulatorAtWork, to: str = "ada@example.com", *, test: bool = False) -> ProviderAnswer:
    """What our own adapter makes of it."""
    provider = SendGrid(emulator.url, SecretStr("SG.any"), sender="noreply@example.com", deadlines=QUICK)
    try:
        request = EmailRequest(to=Address(to), subject="Hello", text="Hi", test=test)
        return await provider.send(provider.prepare(request, email_id="em_1c2f9a3b_x", attempt=3, nonce="n0nce"))
    finally:
        await provider.close()


async def test_sendgrids_own_client_sends_a_mail() -> None:
    async with an_emulator() as emulator:
        client = sendgrid.SendGridAPIClient("SG.any", host=emulator.url)
        mail = Mail(From("noreply@example.com", "Shop"), To("ada@example.com", "Ada"), Subject("Hello"))
        mail.content = Content("text/plain", "Hi")
        mail.custom_arg = CustomArg("ms_id", "em_1c2f9a3b_x")

        answer = await asyncio.to_thread(client.send, mail)

        assert (answer.status_code, answer.body) == (202, b"")
        call = (await emulator.ledger())["data"][0]
        assert call["message_id"] == answer.headers["X-Message-Id"]
        assert (call["id"], call["to"]) == ("em_1c2f9a3b_x", "ada@example.com")


async def test_sendgrids_own_client_gets_errors_that_it_can_read() -> None:
    async with an_emulator() as emulator:
        mail = Mail("noreply@example.com", "ada@bad..example.com", "Hello", "Hi")
        with pytest.raises(BadRequestsError) as refused:
            await asyncio.to_thread(sendgrid.SendGridAPIClient("SG.any", host=emulator.url).send, mail)
        client = sendgrid.SendGridAPIClient("SG.any", host=emulator.url)
        client.client.request_headers["Authorization"] = "Bearer "
        with pytest.raises(UnauthorizedError):
            await asyncio.to_thread(client.send, mail)

        assert refused.value.to_dict["errors"][0]["field"] == "personalizations.0.to.0.email"


async def test_a_sandbox_request_is_checked_and_not_taken() -> None:
    async with an_emulator() as emulator:
        mail = Mail("noreply@example.com", "ada@example.com", "Hello", "Hi")
        mail.mail_settings = MailSettings(sandbox_mode=SandBoxMode(enable=True))

        answer = await asyncio.to_thread(sendgrid.SendGridAPIClient("SG.any", host=emulator.url).send, mail)

        assert answer.status_code == 200
        assert "X-Message-Id" not in answer.headers
        assert (await emulator.ledger())["data"] == []
        assert (await emulator.ledger(all=1))["data"][0]["is_sandbox"] is True


async def test_our_adapter_and_the_ledger_agree_on_an_accepted_call() -> None:
    async with an_emulator() as emulator:
        before_ns, before = time.monotonic_ns(), time.time()

        answer = await answer_to(emulator)

        page = await emulator.ledger()
        call = page["data"][0]
        assert answer == Responded(202, call["message_id"])
        assert (call["id"], call["attempt"], call["nonce"]) == ("em_1c2f9a3b_x", 3, "n0nce")
        assert before_ns < call["monotonic_ns"] < time.monotonic_ns()
        assert before - 0.01 < call["at"] < time.time() + 0.01
        assert page["counts"] == {"calls": 1, "accepted": 1, "202": 1}


async def test_our_probe_is_healthy_and_our_test_mail_accepted() -> None:
    async with an_emulator() as emulator:
        provider = SendGrid(emulator.url, SecretStr("SG.any"), sender="noreply@example.com")
        probed = await provider.probe()
        await provider.close()

        assert probed == Responded(200, is_sandbox=True)
        assert classify(await answer_to(emulator, test=True)) is Outcome.ACCEPTED
        assert (await emulator.ledger())["data"] == []


async def test_the_ledger_is_read_on_from_a_cursor() -> None:
    async with an_emulator() as emulator:
        for n in range(5):
            await post(emulator, a_mail(custom_args={"ms_id": f"em_{n}"}))

        first = await emulator.ledger(limit=2)
        rest = await emulator.ledger(since=first["next"])

        assert [call["id"] for call in first["data"] + rest["data"]] == [f"em_{n}" for n in range(5)]
        assert (first["has_more"], rest["has_more"]) == (True, False)
        assert (await emulator.ledger(since=rest["next"]))["data"] == []

        await emulator.http.delete("/ledger")
        await post(emulator, a_mail(custom_args={"ms_id": "em_after"}))

        assert [call["id"] for call in (await emulator.ledger(since=rest["next"]))["data"]] == ["em_after"]


@pytest.mark.parametrize(
    ("send", "status"),
    [
        pytest.param({"headers": {}}, 401, id="no key"),
        pytest.param({"headers": {"Authorization": "Basic x"}}, 401, id="another kind of key"),
        pytest.param({"headers": HEADERS | {"Content-Type": "text/plain"}}, 415, id="another content type"),
        pytest.param({"headers": HEADERS | {"Content-Type": "application/json"}, "content": b"{"}, 400, id="no JSON"),
        pytest.param({"headers": HEADERS | {"Content-Type": "application/json"}, "content": b"[]"}, 400,
                     id="no object"),
        pytest.param({"headers": HEADERS | {"Content-Type": "application/json"},
                      "content": b'{"a":"' + b"x" * 31_500_000 + b'"}'}, 413, id="too large"),
    ],
)  # fmt: skip
async def test_what_is_no_request_is_refused(send: dict[str, Any], status: int) -> None:
    async with an_emulator() as emulator:
        answer = await emulator.http.post("/v3/mail/send", **({"content": msgspec.json.encode(a_mail())} | send))

        assert answer.status_code == status
        assert (await emulator.ledger())["counts"] == {"calls": 1, "accepted": 0, str(status): 1}


async def test_another_method_and_another_path_are_refused_in_sendgrids_shape() -> None:
    async with an_emulator() as emulator:
        method, path = await emulator.http.get("/v3/mail/send"), await emulator.http.get("/v3/scopes")

        assert (method.status_code, path.status_code) == (405, 404)
        assert method.json()["errors"][0]["message"]


async def test_a_sender_that_is_not_verified_gets_403() -> None:
    async with an_emulator() as emulator:
        await emulator.order(verified_senders=["other@example.com"])
        refused = await answer_to(emulator)
        await emulator.order(verified_senders=["noreply@example.com"])

        assert classify(refused) is Outcome.ACCOUNT_FAULT
        assert classify(await answer_to(emulator)) is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("rule", "answer", "is_accepted"),
    [
        pytest.param({"do": "reset"}, CutOff, False, id="reset before reading"),
        pytest.param({"do": "reset", "recipient": "ada@*"}, CutOff, False, id="reset for a recipient"),
        pytest.param({"do": "drop"}, CutOff, True, id="taken, then dropped"),
        pytest.param({"do": "silent"}, TimedOut, True, id="taken, then silence"),
        pytest.param({"do": "slow"}, TimedOut, True, id="an answer of 1 B/s"),
        pytest.param({"do": "slow_body"}, Responded, True, id="a body of 1 B/s"),
        pytest.param({"do": "status", "status": 503}, Responded, False, id="503 without acceptance"),
        pytest.param({"do": "status", "status": 503, "accepted": True}, Responded, True, id="503 with acceptance"),
        pytest.param({"do": "status", "status": 413}, Responded, False, id="an HTML page"),
        pytest.param({"do": "status", "body": "ok"}, Responded, True, id="202 with a body"),
        pytest.param({"do": "status", "headers": {"X-Message-Id": None}}, Responded, True, id="202 without an id"),
    ],
)
async def test_faults_happen_as_ordered(rule: dict[str, Any], answer: type[ProviderAnswer], is_accepted: bool) -> None:
    async with an_emulator() as emulator:
        await emulator.order(rules=[rule | {"next": 1}])

        faulty, healthy = await answer_to(emulator), await answer_to(emulator)

        assert type(faulty) is answer
        if isinstance(faulty, Responded):
            assert faulty.http_status == rule.get("status", 202)
        calls = (await emulator.ledger(all=1))["data"]
        assert [call["is_accepted"] for call in calls] == [is_accepted, True]
        assert isinstance(healthy, Responded)
        assert healthy.message_id == calls[1]["message_id"]


@pytest.mark.parametrize(
    ("to", "answer"),
    [
        pytest.param("reset@example.com", CutOff, id="reset"),
        pytest.param("drop+7@example.com", CutOff, id="drop, with a plus"),
        pytest.param("silent@example.com", TimedOut, id="silent"),
        pytest.param("status-451@example.com", Responded(451, reason="ordered: Unavailable For Legal Reasons"),
                     id="a status"),
    ],
)  # fmt: skip
async def test_faults_are_scripted_by_the_recipient(to: str, answer: ProviderAnswer | type[ProviderAnswer]) -> None:
    async with an_emulator() as emulator:
        got = await answer_to(emulator, to)

        assert type(got) is answer if isinstance(answer, type) else got == answer


async def test_a_429_says_when_to_go_on() -> None:
    async with an_emulator() as emulator:
        await emulator.order(
            rules=[{"do": "status", "status": 429, "rate_limit_reset_seconds": 40, "headers": {"Retry-After": "50"}}]
        )

        answer = await answer_to(emulator)

        assert isinstance(answer, Responded)
        assert pause_seconds(answer, 0, earlier=0, jitter=0) == 50


async def test_the_same_seed_gives_the_same_faults() -> None:
    async with an_emulator() as emulator:

        async def codes() -> list[int]:
            await emulator.order(seed=7, rules=[{"do": "status", "status": 500, "share": 0.5}])
            return [(await post(emulator, a_mail())).status_code for _ in range(30)]

        first, second = await codes(), await codes()

        assert first == second
        assert {202, 500} == set(first)


async def test_latency_is_kept_and_not_counted_into_the_arrival() -> None:
    async with an_emulator() as emulator:
        await emulator.order(latency_seconds=[0.1, 0.15])

        await post(emulator, a_mail())

        answered_ns = time.monotonic_ns()
        assert answered_ns - (await emulator.ledger())["data"][0]["monotonic_ns"] >= 100_000_000


@pytest.mark.parametrize(
    "orders",
    [
        pytest.param({"rules": [{"do": "explode"}]}, id="a fault that there is not"),
        pytest.param({"rules": [{"do": "drop", "share": 2}]}, id="a share above 1"),
        pytest.param({"rules": [{"do": "status", "status": 99}]}, id="a status that there is not"),
        pytest.param({"rules": [{"do": "drop", "next": 0}]}, id="next 0"),
        pytest.param({"latency": 1}, id="an unknown member"),
        pytest.param({"webhook": {"uri": "http://h"}}, id="an unknown member of the webhook"),
    ],
)
async def test_a_wrong_order_is_refused_and_changes_nothing(orders: dict[str, Any]) -> None:
    async with an_emulator() as emulator:
        before = (await emulator.http.get("/behaviour")).json()

        answer = await emulator.http.post("/behaviour", json={"latency_seconds": 9, **orders})

        assert (answer.status_code, list(answer.json())) == (400, ["error"])
        assert (await emulator.http.get("/behaviour")).json() == before


async def test_a_reset_forgets_all_orders() -> None:
    async with an_emulator() as emulator:
        before = (await emulator.http.get("/behaviour")).json()
        await emulator.order(
            seed=1, latency_seconds=9, rules=[{"do": "drop"}], verified_senders=[], api_keys=[], webhook={"batch": 1}
        )

        await emulator.http.delete("/behaviour")

        assert (await emulator.http.get("/behaviour")).json() == before


class Posts:
    """An endpoint for events: keeps what comes, answers what it is told."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.refused = 0
        self.refuse_next = 0
        self._came = asyncio.Condition()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["Content-Length"]))
        async with self._came:
            if self.refuse_next:
                self.refuse_next -= 1
                self.refused += 1
                status = b"503 No"
            else:
                self.taken.append((headers, body))
                status = b"204 Yes"
            self._came.notify_all()
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, body in self.taken for event in msgspec.json.decode(body)]

    async def until(self, events: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(10), self._came:
            await self._came.wait_for(lambda: len(self.events) >= events)
        return self.events


async def sent_with_events(posts: Posts, *tos: str, events: int, **webhook: Any) -> list[dict[str, Any]]:
    """Post one mail to each, with these webhook orders, and wait for that many events."""
    server = await asyncio.start_server(posts, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/events/sendgrid"
    async with server, an_emulator(url) as emulator:
        await emulator.order(seed=3, webhook={"every_seconds": 0.02} | webhook)
        for to in tos:
            answer = await post(
                emulator,
                a_mail(
                    personalizations=[{"to": [{"email": to}]}],
                    custom_args={"ms_id": f"em_{to}", "ms_nonce": "n", "event": "forged"},
                    categories=["welcome"],
                ),
            )
            assert answer.status_code == 202
        return await posts.until(events)


async def test_events_wait_for_as_long_as_they_are_held_back() -> None:
    posts = Posts()
    server = await asyncio.start_server(posts, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/events/sendgrid"
    async with server, an_emulator(url) as emulator:
        await emulator.order(webhook={"every_seconds": 0.02, "is_held": True})
        assert (await post(emulator, a_mail(custom_args={"ms_id": "em_1"}))).status_code == 202
        await asyncio.sleep(0.2)
        assert not posts.events

        await emulator.order(webhook={"is_held": False})

        assert [event["event"] for event in await posts.until(2)] == ["processed", "delivered"]


async def test_events_come_signed_as_sendgrid_signs_them() -> None:
    posts = Posts()

    events = await sent_with_events(posts, "ada@example.com", events=2)

    assert [event["event"] for event in events] == ["processed", "delivered"]
    assert {event["ms_id"] for event in events} == {"em_ada@example.com"}
    assert {event["category"][0] for event in events} == {"welcome"}
    assert len({event["sg_event_id"] for event in events}) == 2
    async with an_emulator() as emulator:
        key = (await emulator.http.get("/webhook-key")).text
    load_der_public_key(base64.b64decode(key, validate=True))
    helper = EventWebhook()
    for headers, body in posts.taken:
        assert body.endswith(b"]\r\n")
        assert helper.verify_signature(
            body.decode(),
            headers["X-Twilio-Email-Event-Webhook-Signature"],
            headers["X-Twilio-Email-Event-Webhook-Timestamp"],
            helper.convert_public_key_to_ecdsa(key),
        )


async def test_an_events_message_id_begins_with_the_one_of_the_answer() -> None:
    posts = Posts()
    server = await asyncio.start_server(posts, "127.0.0.1", 0)
    async with server, an_emulator(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as emulator:
        answer = await post(emulator, a_mail())
        events = await posts.until(1)

    assert events[0]["sg_message_id"].partition(".")[0] == answer.headers["X-Message-Id"]
    assert events[0]["smtp-id"].startswith(f"<{answer.headers['X-Message-Id']}@")


@pytest.mark.parametrize(
    ("to", "names"),
    [
        ("bounce@example.com", ["processed", "bounce"]),
        ("blocked@example.com", ["processed", "bounce"]),
        ("dropped@example.com", ["processed", "dropped"]),
        ("deferred@example.com", ["processed", "deferred", "delivered"]),
        ("spam@example.com", ["processed", "delivered", "spamreport"]),
        ("open+1@example.com", ["processed", "delivered", "open"]),
        ("async-bounce@example.com", ["processed", "delivered", "bounce"]),
    ],
)
async def test_the_recipient_chooses_what_becomes_of_a_mail(to: str, names: list[str]) -> None:
    events = await sent_with_events(Posts(), to, events=len(names))

    assert [event["event"] for event in events] == names
    if to.startswith("async"):
        assert "sg_message_id" not in events[-1]
        assert "ms_id" not in events[-1]


async def test_a_refused_post_comes_again() -> None:
    posts = Posts()
    posts.refuse_next = 2

    events = await sent_with_events(posts, "ada@example.com", events=2)

    assert posts.refused == 2
    assert sorted(event["event"] for event in events) == ["delivered", "processed"]


async def test_events_come_twice_on_order() -> None:
    same = await sent_with_events(Posts(), "ada@example.com", events=4, duplicate_share=1)
    other = await sent_with_events(Posts(), "ada@example.com", events=4, duplicate_share=1, duplicate_has_new_id=True)

    assert len({event["sg_event_id"] for event in same}) == 2
    assert len({event["sg_event_id"] for event in other}) == 4


async def test_events_come_out_of_order_late_or_not_at_all_on_order() -> None:
    tos = [f"a{n}@example.com" for n in range(10)]
    shuffled = await sent_with_events(Posts(), *tos, events=20, shuffle=True, delay_seconds=0.01)
    lost = await sent_with_events(Posts(), *tos, "last@example.com", events=8, lost_share=0.5)
    started = time.monotonic()
    await sent_with_events(Posts(), "ada@example.com", events=2, late={"share": 1, "seconds": [0.3, 0.4]})

    first_seen: dict[str, str] = {}
    for event in shuffled:
        first_seen.setdefault(event["email"], event["event"])
    assert "delivered" in first_seen.values()
    assert 8 <= len(lost) < 22
    assert time.monotonic() - started >= 0.3


async def test_without_a_listener_events_wait_and_the_emulator_serves_on() -> None:
    async with an_emulator(a_closed_port()) as emulator:
        await emulator.order(webhook={"every_seconds": 0.02})
        await post(emulator, a_mail())
        async with asyncio.timeout(5):
            while (await emulator.http.get("/behaviour")).json()["webhook_so_far"]["refused_posts"] < 2:
                await asyncio.sleep(0.01)

        assert (await post(emulator, a_mail())).status_code == 202


async def test_the_inbox_shows_a_mail_with_all_its_parts() -> None:
    html = "<script>alert(1)</script><p>Hi</p>"
    mail = a_mail(
        content=[{"type": "text/plain", "value": "Hi"}, {"type": "text/html", "value": html}],
        headers={"X-Order": "17"},
        attachments=[{"filename": "a.txt", "content": base64.b64encode(b"hello!").decode(), "type": "text/plain"}],
    )
    async with an_emulator() as emulator:
        await post(emulator, mail)

        listed = (await emulator.http.get("/inbox/mails")).json()["data"][0]
        shown = (await emulator.http.get(f"/inbox/mails/{listed['seq']}")).json()
        page = await emulator.http.get(f"/inbox/mails/{listed['seq']}/html")

        assert (listed["to"], listed["from"], listed["subject"]) == ("ada@example.com", "noreply@example.com", "Hello")
        assert ["X-Order", "17"] in shown["headers"]
        assert (shown["text"], shown["has_html"]) == ("Hi", True)
        assert shown["attachments"] == [{"filename": "a.txt", "type": "text/plain", "size_bytes": 6}]
        assert msgspec.json.decode(shown["source"]) == mail
        assert page.text == html
        assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


async def test_the_inbox_is_searched_and_cleared() -> None:
    async with an_emulator() as emulator:
        await post(emulator, a_mail(subject="Your order"))
        await post(emulator, a_mail(subject="Your bill"))

        found = (await emulator.http.get("/inbox/mails", params={"search": "ORDER"})).json()

        assert [mail["subject"] for mail in found["data"]] == ["Your order"]
        assert (await emulator.http.delete("/inbox/mails")).status_code == 204
        assert (await emulator.http.get("/inbox/mails")).json() == {"object": "list", "data": [], "total": 0}
        assert (await emulator.http.get("/inbox/mails/1")).status_code == 404
        assert len((await emulator.ledger())["data"]) == 2


@pytest.mark.parametrize("path", ["/", "/inbox.js", "/inbox.css"])
async def test_the_page_takes_nothing_from_elsewhere(path: str) -> None:
    async with an_emulator() as emulator:
        answer = await emulator.http.get(path)

        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        assert "innerHTML" not in answer.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_as_a_success_when_told_to_even_with_calls_left_hanging(number: int) -> None:
    port = a_closed_port().rpartition(":")[2]
    process = subprocess.Popen(
        [sys.executable, "-c", f"from dev.sendgrid.app import run; run('127.0.0.1', {port})"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            for _ in range(400):
                try:
                    http.get("/healthz")
                    break
                except httpx.ConnectError:
                    time.sleep(0.05)
            mail = a_mail(personalizations=[{"to": [{"email": "silent@example.com"}]}])
            with pytest.raises(httpx.ReadTimeout):
                http.post("/v3/mail/send", json=mail, headers=HEADERS, timeout=0.2)
            os.kill(process.pid, number)
            _, said = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 0
    assert said == ""
