"""The SendGrid adapter against servers that misbehave: which answer, what it proves, within the deadline."""

import asyncio
import contextlib
import gc
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from mailstream.domain.attempt import Outcome
from mailstream.domain.errors import WrongSettings
from mailstream.domain.request import Address, EmailRequest
from streams.core.provider_answer import (
    CutOff,
    Garbled,
    NeverLeft,
    ProviderAnswer,
    Responded,
    TimedOut,
    Withheld,
    classify,
)
from streams.provider.connection import LONGEST_ANSWER_BYTES, Deadlines
from streams.provider.port import Mail, Provider
from streams.provider.sendgrid import SendGrid
from tests.support.wild_server import (
    Behaviour,
    Visit,
    a_closed_port,
    a_deaf_port,
    a_self_signed_certificate,
    a_wild_server,
)

#: The deadline of a call, in a hurry.
QUICK = Deadlines(connect=1.0, write=0.4, read=0.8, explanation=0.3)
#: What a busy machine may add.
SLACK_SECONDS = 1.5
DEADLINE_SECONDS = QUICK.connect + QUICK.write + QUICK.read
KEY = "SG.canary.0123456789"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nX-Message-Id: msg-1\r\n\r\n"


@contextlib.asynccontextmanager
async def a_sendgrid(url: str, deadlines: Deadlines = QUICK) -> AsyncIterator[SendGrid]:
    provider = SendGrid(url, SecretStr(KEY), sender="noreply@example.com", deadlines=deadlines)
    try:
        yield provider
    finally:
        await provider.close()


def a_mail(provider: Provider, *, test: bool = False, text: str = "Hi") -> Mail:
    request = EmailRequest(to=Address("ada@example.com"), subject="Hello", text=text, test=test)
    return provider.prepare(request, email_id="em_1c2f9a3b_x", attempt=1, nonce="n0nce")


async def answer_of(behave: Behaviour) -> ProviderAnswer:
    """What one call to such a server gives; it must come within the deadline."""
    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
        mail = a_mail(provider)
        started = time.monotonic()

        answer = await provider.send(mail)

        assert time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS
        assert server.visits == 1, "one call is one connection: nothing is tried again"
        return answer


def says(data: bytes) -> Behaviour:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(data)
        await visit.reader.read()

    return behave


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return f"{head}\r\n\r\n".encode("latin-1") + body


async def resets_after_the_request(visit: Visit) -> None:
    await visit.request()
    visit.reset()


async def closes_after_the_request(visit: Visit) -> None:
    await visit.request()


async def closes_in_the_middle_of_the_head(visit: Visit) -> None:
    await visit.request()
    await visit.say(b"HTTP/1.1 202 Acc")


async def never_answers(visit: Visit) -> None:
    await visit.request()
    await visit.reader.read()


async def answers_a_byte_at_a_time(visit: Visit) -> None:
    await visit.request()
    for byte in ACCEPTED:
        await visit.say(bytes([byte]))
        await asyncio.sleep(0.1)


async def sends_headers_without_end(visit: Visit) -> None:
    await visit.request()
    await visit.say(b"HTTP/1.1 202 Accepted\r\n")
    while True:
        await visit.say(b"X-More: " + b"a" * 1000 + b"\r\n")


async def sends_one_header_without_end(visit: Visit) -> None:
    await visit.request()
    await visit.say(b"HTTP/1.1 202 Accepted\r\nX-More: ")
    while True:
        await visit.say(b"a" * 1000)


async def sends_interim_answers_without_end(visit: Visit) -> None:
    await visit.request()
    while True:
        await visit.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.01)


async def sends_a_body_without_end(visit: Visit) -> None:
    await visit.request()
    await visit.say(b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await visit.say(b"400\r\n" + b"a" * 0x400 + b"\r\n")


async def accepts_and_then_stalls(visit: Visit) -> None:
    await visit.request()
    await visit.say(b"HTTP/1.1 202 Accepted\r\nContent-Length: 99\r\nX-Message-Id: msg-1\r\n\r\n")
    await visit.reader.read()


async def resets_in_the_middle_of_the_body(visit: Visit) -> None:
    await visit.request()
    await visit.say(b'HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{"errors"')
    visit.reset()


async def answers_before_the_request(visit: Visit) -> None:
    await visit.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await visit.reader.read()


ERRORS = b'{"errors":[{"message":"The subject is required.","field":"subject","help":null}]}'
HTML = b"<html><head><title>413 Request Entity Too Large</title></head></html>"
BOMB = gzip.compress(b"a" * 50_000_000)


@pytest.mark.parametrize(
    ("behave", "answer", "proves"),
    [
        pytest.param(says(ACCEPTED), Responded(202, "msg-1"), Outcome.ACCEPTED, id="accepted"),
        pytest.param(says(http("202 Accepted")), Responded(202), Outcome.ACCEPTED, id="202 without X-Message-Id"),
        pytest.param(says(http("202 Accepted", b"ok", "X-Message-Id: m")), Responded(202, "m"), Outcome.ACCEPTED,
                     id="202 with a body"),
        pytest.param(says(http("202 Accepted", b"", "X-Message-Id: a b\x80")), Responded(202), Outcome.ACCEPTED,
                     id="202 with an id that nobody can quote"),
        pytest.param(accepts_and_then_stalls, Responded(202, "msg-1"), Outcome.ACCEPTED,
                     id="202 whose body never comes"),
        pytest.param(says(http("200 OK")), Responded(200), Outcome.UNKNOWN, id="200 to a real email"),
        pytest.param(says(http("302 Found", b"", "Location: http://127.0.0.1:1/")), Responded(302), Outcome.UNKNOWN,
                     id="a redirect is not followed"),
        pytest.param(says(http("400 Bad Request", ERRORS)),
                     Responded(400, reason="subject: The subject is required."), Outcome.REFUSED, id="400 with reason"),
        pytest.param(says(http("400 Bad Request", b"{not json")), Responded(400), Outcome.REFUSED, id="bad JSON"),
        pytest.param(says(http("400 Bad Request", b"[" * 60_000)), Responded(400), Outcome.REFUSED, id="deep JSON"),
        pytest.param(says(http("401 Unauthorized")), Responded(401), Outcome.ACCOUNT_FAULT, id="401"),
        pytest.param(says(http("413 Request Entity Too Large", HTML)), Responded(413), Outcome.REFUSED, id="HTML 413"),
        pytest.param(says(http("502 Bad Gateway", HTML)), Responded(502), Outcome.UNKNOWN, id="HTML 502"),
        pytest.param(says(http("500 Oops", BOMB, "Content-Encoding: gzip")), Responded(500), Outcome.UNKNOWN,
                     id="gzip bomb"),
        pytest.param(sends_a_body_without_end, Responded(500), Outcome.UNKNOWN, id="endless body"),
        pytest.param(resets_in_the_middle_of_the_body, Responded(400), Outcome.REFUSED, id="reset within the body"),
        pytest.param(resets_after_the_request, CutOff, Outcome.UNKNOWN, id="reset after the request"),
        pytest.param(closes_after_the_request, CutOff, Outcome.UNKNOWN, id="closed after the request"),
        pytest.param(closes_in_the_middle_of_the_head, CutOff, Outcome.UNKNOWN, id="closed within the status line"),
        pytest.param(never_answers, TimedOut, Outcome.UNKNOWN, id="no answer"),
        pytest.param(answers_a_byte_at_a_time, TimedOut, Outcome.UNKNOWN, id="an answer of a few bytes a second"),
        pytest.param(sends_interim_answers_without_end, TimedOut, Outcome.UNKNOWN, id="endless 100 Continue"),
        pytest.param(sends_headers_without_end, Garbled, Outcome.UNKNOWN, id="endless headers"),
        pytest.param(sends_one_header_without_end, Garbled, Outcome.UNKNOWN, id="one endless header"),
        pytest.param(says(b"HTTQ/9 twohundred OK\r\n\r\n"), Garbled, Outcome.UNKNOWN, id="garbled status line"),
        pytest.param(says(b"\x00\xff\xfe" * 100), Garbled, Outcome.UNKNOWN, id="not HTTP at all"),
    ],
)  # fmt: skip
async def test_every_misbehaviour_is_an_answer_and_proves_only_what_it_says(
    behave: Behaviour, answer: ProviderAnswer | type[ProviderAnswer], proves: Outcome
) -> None:
    got = await answer_of(behave)

    assert classify(got) is proves
    if isinstance(answer, type):
        assert type(got) is answer
    else:
        assert got == answer


@pytest.mark.parametrize("behave", [sends_a_body_without_end, sends_headers_without_end, sends_one_header_without_end])
async def test_of_an_answer_without_end_only_a_little_is_read(behave: Behaviour) -> None:
    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
        await provider.send(a_mail(provider))

        # What the two kernels and the client's buffers took before the connection was closed.
        assert server.bytes_said < 100 * LONGEST_ANSWER_BYTES


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200)
    | st.tuples(st.sampled_from([b"202 Accepted", b"400 Bad", b"429 No", b"99999 x", b"-1", b""]), st.binary(max_size=80))
    .map(lambda parts: b"HTTP/1.1 " + parts[0] + b"\r\n" + parts[1] + b"\r\n\r\n")
)  # fmt: skip
def test_no_bytes_make_a_call_raise(data: bytes) -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(data)

    async def call() -> None:
        async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
            classify(await provider.send(a_mail(provider)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(call())


async def test_a_429_comes_with_the_headers_that_say_when_to_go_on() -> None:
    date = "Thu, 19 Nov 2026 00:00:00 GMT"
    limits = ("X-RateLimit-Reset: 1795000040", "Retry-After: 7", f"Date: {date}")

    answer = await answer_of(says(http("429 Too Many Requests", b"", *limits)))

    assert isinstance(answer, Responded)
    assert answer.hints is not None
    assert (answer.hints.reset, answer.hints.retry_after, answer.hints.date) == ("1795000040", "7", date)
    assert classify(answer) is Outcome.NOT_ACCEPTED


async def test_a_reset_on_a_reused_connection_is_not_tried_again() -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(ACCEPTED)
        await visit.request()
        visit.reset()

    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
        first, second = await provider.send(a_mail(provider)), await provider.send(a_mail(provider))

        assert (first, type(second)) == (Responded(202, "msg-1"), CutOff)
        assert (server.visits, len(server.requests)) == (1, 2)


async def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(ACCEPTED)

    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
        await provider.send(a_mail(provider))
        await asyncio.sleep(0.05)  # the farewell is on its way; nothing can be asked about it

        assert await provider.send(a_mail(provider)) == Responded(202, "msg-1")
        assert server.visits == 2


@pytest.mark.parametrize("pause_seconds", [pytest.param(0.0, id="at once"), pytest.param(0.05, id="later")])
async def test_a_second_answer_to_one_request_is_not_taken_for_that_of_the_next(pause_seconds: float) -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(ACCEPTED if pause_seconds else ACCEPTED + ACCEPTED)
        await asyncio.sleep(pause_seconds)
        await visit.say(ACCEPTED)
        await visit.reader.read()

    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
        await provider.send(a_mail(provider))
        await asyncio.sleep(0.1)

        assert await provider.send(a_mail(provider)) == Responded(202, "msg-1")
        assert server.visits == 2, "nobody can say whose answer comes next on the first connection"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(a_closed_port(), id="refused"),
        pytest.param("http://no-such-name.invalid", id="no such name"),
    ],
)
async def test_what_never_left_is_proven_not_accepted(url: str) -> None:
    async with a_sendgrid(url, Deadlines(connect=3)) as provider:
        answer = await provider.send(a_mail(provider))

    assert isinstance(answer, NeverLeft)
    assert classify(answer) is Outcome.NOT_ACCEPTED


async def test_a_connect_that_hangs_ends_at_its_deadline() -> None:
    with a_deaf_port() as url:
        async with a_sendgrid(url) as provider:
            started = time.monotonic()

            answer = await provider.send(a_mail(provider))

            assert isinstance(answer, NeverLeft)
            assert time.monotonic() - started < QUICK.connect + SLACK_SECONDS


async def test_a_handshake_that_hangs_is_a_connect_that_hangs() -> None:
    async def behave(visit: Visit) -> None:
        await asyncio.sleep(5)

    async with a_wild_server(behave) as server, a_sendgrid(server.url.replace("http:", "https:")) as provider:
        assert isinstance(await provider.send(a_mail(provider)), NeverLeft)


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    tls, _ = a_self_signed_certificate(tmp_path)

    async with a_wild_server(says(ACCEPTED), tls) as server, a_sendgrid(server.url) as provider:
        answer = await provider.send(a_mail(provider))

        assert answer == NeverLeft("no trusted TLS connection to the provider")
        assert server.requests == []


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls, certificate = a_self_signed_certificate(tmp_path, name="mail.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async with a_wild_server(says(ACCEPTED), tls) as server, a_sendgrid(server.url) as provider:
        assert isinstance(await provider.send(a_mail(provider)), NeverLeft)


async def test_a_trusted_certificate_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls, certificate = a_self_signed_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async with a_wild_server(says(ACCEPTED), tls) as server, a_sendgrid(server.url) as provider:
        assert await provider.send(a_mail(provider)) == Responded(202, "msg-1")


async def test_a_server_that_does_not_read_ends_the_call_at_the_write_deadline() -> None:
    async def behave(visit: Visit) -> None:
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(5)

    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
        started = time.monotonic()

        answer = await provider.send(a_mail(provider, text="x" * 20_000_000))

        assert isinstance(answer, TimedOut)
        assert time.monotonic() - started < QUICK.write + SLACK_SECONDS


async def test_proxies_in_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, a_closed_port())

    assert await answer_of(says(ACCEPTED)) == Responded(202, "msg-1")


async def test_the_request_is_what_sendgrid_documents() -> None:
    async with a_wild_server(says(ACCEPTED)) as server, a_sendgrid(server.url) as provider:
        await provider.send(a_mail(provider))

        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v3/mail/send HTTP/1.1"
    assert f"Authorization: Bearer {KEY}" in lines
    assert "Content-Type: application/json" in lines
    assert msgspec.json.decode(body)["custom_args"] == {
        "ms_id": "em_1c2f9a3b_x", "ms_attempt": "1", "ms_nonce": "n0nce",
    }  # fmt: skip


async def test_a_new_key_is_used_from_the_next_call_on() -> None:
    async def behave(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.say(ACCEPTED)

    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
        await provider.send(a_mail(provider))
        provider.use_key(SecretStr("SG.new"))
        await provider.send(a_mail(provider))

        assert b"Bearer SG.new\r\n" not in server.requests[0]
        assert b"Bearer SG.new\r\n" in server.requests[1]


async def test_a_probe_is_a_sandbox_request_from_the_configured_sender() -> None:
    async with a_wild_server(says(http("200 OK"))) as server, a_sendgrid(server.url) as provider:
        answer = await provider.probe()

        body = msgspec.json.decode(server.requests[0].partition(b"\r\n\r\n")[2])
    assert classify(answer) is Outcome.ACCEPTED
    assert body["mail_settings"] == {"sandbox_mode": {"enable": True}}
    assert body["from"] == {"email": "noreply@example.com"}


async def test_a_test_email_is_accepted_by_200() -> None:
    async with a_wild_server(says(http("200 OK"))) as server, a_sendgrid(server.url) as provider:
        assert classify(await provider.send(a_mail(provider, test=True))) is Outcome.ACCEPTED


CALLS = [
    pytest.param(lambda provider, gate: provider.send(a_mail(provider), gate), id="mail"),
    pytest.param(lambda provider, gate: provider.probe(gate), id="probe"),
]


@pytest.mark.parametrize("call", CALLS)
async def test_the_gate_is_asked_when_the_connection_is_ready(call: Callable[..., Awaitable[ProviderAnswer]]) -> None:
    async with a_wild_server(says(ACCEPTED)) as server, a_sendgrid(server.url) as provider:
        asked: list[int] = []

        async def wait_for_the_server() -> bool:
            while server.visits == 0:
                await asyncio.sleep(0.001)
            asked.append(len(server.requests))
            return True

        answer = await call(provider, wait_for_the_server)

        assert isinstance(answer, Responded)
        assert asked == [0]


async def test_time_at_the_gate_is_not_counted() -> None:
    async with a_wild_server(says(ACCEPTED)) as server, a_sendgrid(server.url) as provider:

        async def wait_long() -> bool:
            await asyncio.sleep(DEADLINE_SECONDS + 0.2)
            return True

        assert await provider.send(a_mail(provider), wait_long) == Responded(202, "msg-1")


@pytest.mark.parametrize("call", CALLS)
async def test_behind_a_closed_gate_no_byte_leaves(call: Callable[..., Awaitable[ProviderAnswer]]) -> None:
    seen: list[bytes] = []

    async def behave(visit: Visit) -> None:
        seen.append(await visit.reader.read())

    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:

        async def closed() -> bool:
            while server.visits == 0:
                await asyncio.sleep(0.001)
            return False

        answer = await call(provider, closed)
        while not seen:
            await asyncio.sleep(0.001)

    assert answer == Withheld()
    assert seen == [b""]


async def test_a_connection_lost_at_the_gate_is_proven_not_accepted() -> None:
    was_reset = asyncio.Event()

    async def behave(visit: Visit) -> None:
        visit.reset()
        was_reset.set()

    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:

        async def wait_for_the_end() -> bool:
            await was_reset.wait()
            await asyncio.sleep(0.05)  # until the client's kernel and loop have it too
            return True

        answer = await provider.send(a_mail(provider), wait_for_the_end)

    assert isinstance(answer, NeverLeft)


async def test_a_gate_is_not_waited_for_once_its_connection_is_lost() -> None:
    was_cancelled = asyncio.Event()

    async def behave(visit: Visit) -> None:
        visit.reset()

    async def wait_for_ever() -> bool:
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            was_cancelled.set()
            raise

    async with a_wild_server(behave) as server, a_sendgrid(server.url) as provider:
        answer = await provider.send(a_mail(provider), wait_for_ever)
        async with asyncio.timeout(5):
            await was_cancelled.wait()

    assert isinstance(answer, NeverLeft)


async def test_what_the_gate_raises_is_not_hidden_in_an_answer() -> None:
    async def broken() -> bool:
        raise LookupError("a bug of ours")

    async with a_wild_server(says(ACCEPTED)) as server, a_sendgrid(server.url) as provider:
        with pytest.raises(LookupError, match="a bug of ours"):
            await provider.send(a_mail(provider), broken)


async def test_a_cancelled_call_ends_at_once() -> None:
    async with a_wild_server(never_answers) as server, a_sendgrid(server.url, Deadlines()) as provider:
        call = asyncio.create_task(provider.send(a_mail(provider)))
        while not server.requests:
            await asyncio.sleep(0.001)
        call.cancel()

        with pytest.raises(asyncio.CancelledError):
            await call


async def test_calls_to_a_silent_provider_do_not_hold_up_the_loop() -> None:
    gc.collect()  # what earlier tests left behind is no lag of this one
    async with a_wild_server(never_answers) as server, a_sendgrid(server.url) as provider:
        calls = asyncio.gather(*(provider.send(a_mail(provider)) for _ in range(50)))
        worst = 0.0
        while not calls.done():
            before = time.thread_time()  # our own CPU: what others on the machine take is no lag of ours
            await asyncio.sleep(0.005)
            worst = max(worst, time.thread_time() - before)

        assert {type(answer) for answer in await calls} == {TimedOut}
        assert worst < 0.1


async def test_a_key_that_would_break_the_request_is_told_at_the_start() -> None:
    with pytest.raises(WrongSettings, match="MAILSTREAM_SENDGRID_API_KEY"):
        SendGrid("https://example.com", SecretStr("SG.one\r\nBcc: two"), sender="noreply@example.com")


@pytest.mark.parametrize("url", ["ftp://example.com", "https://", "https://user:pw@example.com", "http://h/?key=1"])
async def test_a_url_that_cannot_be_called_is_told_at_the_start(url: str) -> None:
    with pytest.raises(WrongSettings, match="MAILSTREAM_SENDGRID_URL"):
        SendGrid(url, SecretStr(KEY), sender="noreply@example.com")
