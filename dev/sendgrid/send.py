"""``POST /v3/mail/send`` as a bare ASGI app: the hot path, so that a benchmark measures the worker and not us."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dev.sendgrid import answers
from dev.sendgrid.answers import Answer
from dev.sendgrid.behaviour import Behaviour, Rule
from dev.sendgrid.checks import LONGEST_REQUEST_BYTES, validate
from dev.sendgrid.connection import ARRIVED_NS, CONNECTION, Connection
from dev.sendgrid.inbox import Inbox
from dev.sendgrid.ledger import Call, Ledger
from dev.sendgrid.shape import MailSend, Unreadable, Violation, read
from dev.sendgrid.webhook import Webhook

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: What ``slow_body`` drips when the answer has no body of its own.
_FILLER = b" " * 4096
_UNAUTHORIZED = answers.refusal(401, Violation("The authorization grant is missing or of no use."))
_NOT_JSON = answers.refusal(415, Violation("The content type must be application/json."))
_NOT_VERIFIED = answers.refusal(403, Violation("The from address is no verified sender.", "from"))


class MailSendRoute:
    """Takes or refuses mails, and does wrong what was ordered."""

    def __init__(self, behaviour: Behaviour, ledger: Ledger, inbox: Inbox, webhook: Webhook) -> None:
        self._behaviour, self._ledger, self._inbox, self._webhook = behaviour, ledger, inbox, webhook

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call."""
        if (rule := self._behaviour.before_the_body()) is not None:
            self._write(scope, rule.do, None, None)
            await _misbehave(rule, Answer(rule.status), scope, receive)
            return
        body = await _body(receive)
        mail, refusal = self._judge(scope, body)
        rule = self._behaviour.for_recipient(mail.personalizations[0].to[0].email if mail is not None else None)
        is_sandbox = mail is not None and mail.is_sandbox()
        message_id = None
        if mail is not None and refusal is None and not is_sandbox and (rule is None or rule.takes_the_mail):
            message_id = self._take(mail, body)
        answer = _answer(rule, refusal, message_id, is_sandbox=is_sandbox)
        is_whole = rule is None or rule.do == "status"
        self._write(scope, str(answer.status) if is_whole or rule is None else rule.do, mail, message_id)
        if wait := self._behaviour.seconds(self._behaviour.latency_seconds):
            await asyncio.sleep(wait)
        if is_whole or rule is None:
            await send({"type": "http.response.start", "status": answer.status,
                        "headers": [*answer.headers, (b"content-length", b"%d" % len(answer.body))]})  # fmt: skip
            await send({"type": "http.response.body", "body": answer.body})
        else:
            await _misbehave(rule, answer, scope, receive)

    def _judge(self, scope: Scope, body: bytes) -> tuple[MailSend | None, Answer | None]:
        """The mail, as far as it can be read, and the answer that refuses it, if SendGrid would."""
        headers = dict(scope["headers"])
        kind, _, key = headers.get(b"authorization", b"").partition(b" ")
        good = self._behaviour.api_keys
        if kind.lower() != b"bearer" or not key.strip() or (good is not None and key.decode("latin-1") not in good):
            return None, _UNAUTHORIZED
        if not headers.get(b"content-type", b"").lower().startswith(b"application/json"):
            return None, _NOT_JSON
        if len(body) > LONGEST_REQUEST_BYTES:
            return None, answers.page(413)
        try:
            mail = read(body)
        except Unreadable as error:
            return None, answers.refusal(400, error.mistake)
        if mistakes := validate(mail, time.time()):
            is_readable = bool(mail.personalizations and mail.personalizations[0].to)
            return mail if is_readable else None, answers.refusal(400, *mistakes)
        senders = self._behaviour.verified_senders
        if senders is not None and mail.from_.email.lower() not in senders:
            return mail, _NOT_VERIFIED
        return mail, None

    def _take(self, mail: MailSend, body: bytes) -> str:
        message_id = secrets.token_urlsafe(16)
        self._inbox.keep(mail, body, message_id)
        self._webhook.announce(mail, message_id)
        return message_id

    def _write(self, scope: Scope, answer: str, mail: MailSend | None, message_id: str | None) -> None:
        arrived_ns: int = scope[ARRIVED_NS]
        attempt = mail.mark("ms_attempt") if mail is not None else None
        self._ledger.write(
            Call(
                seq=self._ledger.next_seq,
                is_accepted=message_id is not None,
                answer=answer,
                monotonic_ns=arrived_ns,
                at=time.time() - (time.monotonic_ns() - arrived_ns) / 1e9,
                is_sandbox=mail is not None and mail.is_sandbox(),
                id=mail.mark("ms_id") if mail is not None else None,
                attempt=int(attempt) if attempt is not None and attempt.isdecimal() else None,
                nonce=mail.mark("ms_nonce") if mail is not None else None,
                message_id=message_id,
                to=mail.personalizations[0].to[0].email if mail is not None else None,
            )
        )


def _answer(rule: Rule | None, refusal: Answer | None, message_id: str | None, *, is_sandbox: bool) -> Answer:
    """A fault of the server comes before any check of the request; a fault of the answer needs a request to answer."""
    if rule is not None and rule.status >= 300:
        return answers.ordered(rule, None, time.time())
    if refusal is not None:
        return refusal
    if is_sandbox:
        return answers.sandboxed()
    if rule is not None:
        return answers.ordered(rule, message_id, time.time())
    assert message_id is not None
    return answers.accepted(message_id)


async def _body(receive: Receive) -> bytes:
    """The whole body; one above the limit is read on and forgotten, so that the client gets to hear of it."""
    message = await receive()
    if not message.get("more_body"):
        return bytes(message.get("body", b""))
    pieces = bytearray(message["body"])
    while message.get("more_body"):
        message = await receive()
        if len(pieces) <= LONGEST_REQUEST_BYTES:
            pieces += message.get("body", b"")
    return bytes(pieces)


async def _misbehave(rule: Rule, answer: Answer, scope: Scope, receive: Receive) -> None:
    connection: Connection = scope[CONNECTION]
    match rule.do:
        case "reset":
            connection.reset()
        case "drop":
            connection.close_now()
        case "slow":
            await connection.drip(answer.raw_head(len(answer.body)) + answer.body, rule.bytes_per_second)
        case "slow_body":
            body = answer.body or _FILLER
            connection.transport.write(answer.raw_head(len(body)))
            await connection.drip(body, rule.bytes_per_second)
        case "silent" | "status":
            pass
    while (await receive())["type"] != "http.disconnect":
        pass
