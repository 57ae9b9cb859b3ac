"""The call to SendGrid: one shared aiohttp session, one request per call, one deadline, no retry (K3, G1)."""

import asyncio
import re
import ssl
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec
import structlog
from aiohttp.abc import AbstractStreamWriter
from pydantic import SecretStr
from yarl import URL

from mailstream.errors import WrongSettings
from mailstream.request import EmailRequest
from streams.failpoints import failpoint
from streams.provider import payload
from streams.provider.port import (
    Answer,
    CutOff,
    Garbled,
    Gate,
    Mail,
    NeverLeft,
    RateHints,
    Responded,
    TimedOut,
    Withheld,
)

log = structlog.get_logger(__name__)

#: At most so much of an answer's body is read; SendGrid's own errors have a few hundred bytes.
LONGEST_ANSWER_BYTES: Final = 65_536
#: A connection that idled longer is not used again. Below what servers and balancers keep (60 s and more), so that
#: no request is written into a connection that the other side is just closing.
KEEP_ALIVE_SECONDS: Final = 15.0
_LONGEST_REASON: Final = 500
#: A real answer has about 20 headers; a field of 4 KiB leaves room for the longest policies.
_MOST_HEADERS, _LONGEST_FIELD_BYTES = 64, 4096

_MESSAGE_ID = re.compile(r"[!-~]{1,255}")
_ADDRESS = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+")
_KEY = re.compile(r"\bSG\.[\w.-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Longest times of one call's parts, in seconds on the loop's monotonic clock; together G1: 18."""

    connect: float = 3.0  #: name, TCP and TLS
    write: float = 3.0  #: until the socket has taken the request
    read: float = 12.0  #: until the answer is whole
    explanation: float = 2.0  #: of ``read``, once the status is known: its body changes nothing


class _Error(msgspec.Struct):
    message: Any = None
    field: Any = None


class _Errors(msgspec.Struct):
    errors: list[_Error]


_errors = msgspec.json.Decoder(_Errors)


class _Refused(Exception):
    """Raised while nothing of the request is written, to end the call."""


class _Body(aiohttp.Payload):
    """A request body that asks the gate before its first byte, times its writing, and knows whether it left.

    aiohttp hands the headers to the socket together with the first bytes of the body. Without the body the
    provider has nothing to accept, so ``has_left`` False is proof even if that should change.
    """

    def __init__(self, mail: Mail, gate: Gate | None, deadlines: Deadlines) -> None:
        super().__init__(mail.body, content_type="application/json")
        self._size = len(mail.body)
        self._email_id = mail.email_id
        self._gate = gate
        self._deadlines = deadlines
        self.deadline = asyncio.timeout(None)
        self.is_withheld = False
        self.has_left = False
        self.gate_error: Exception | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text; aiohttp asks for it in error texts only."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Pass the gate, then hand everything to the socket."""
        if self._gate is not None and not await self._pass(self._gate):
            self.is_withheld = True
            raise _Refused("the gate is closed")
        transport = writer.transport
        if transport is None or transport.is_closing():
            raise _Refused("the connection was closed before the request")
        self.has_left = True
        now = asyncio.get_running_loop().time
        self.deadline.reschedule(now() + self._deadlines.write)
        await writer.write(self._value)
        failpoint("C7", self._email_id)
        self.deadline.reschedule(now() + self._deadlines.read)

    async def _pass(self, gate: Gate) -> bool:
        try:
            return await gate()
        except Exception as error:
            self.gate_error = error  # a bug of ours: told by send, not hidden in an answer
            raise

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,
    ) -> None:
        """What aiohttp calls."""
        await self.write(writer)


class SendGrid:
    """Provider port over ``POST /v3/mail/send``. To be made inside a running loop.

    No retry, no redirect, no proxy from the environment, no cookies, no decompression; certificates are checked.
    """

    def __init__(
        self,
        url: str,
        api_key: SecretStr,
        *,
        sender: str | None = None,
        deadlines: Deadlines = Deadlines(),
    ) -> None:
        base = URL(url)
        if base.scheme not in ("http", "https") or not base.host or base.user or base.query_string:
            raise WrongSettings("MAILSTREAM_SENDGRID_URL must be http(s)://host[:port] without user, key or query")
        self._url = base / "v3/mail/send"
        self._sender = sender
        self._deadlines = deadlines
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=ssl.create_default_context(),
                limit=0,  # MAX_IN_FLIGHT bounds the calls; a wait for a connection would stand behind the gate
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ttl_dns_cache=60,
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=deadlines.connect),
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # with auto_decompress off: nothing to bomb us with
                "User-Agent": "mailstream",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            max_line_size=_LONGEST_FIELD_BYTES,
            max_field_size=_LONGEST_FIELD_BYTES,
            max_headers=_MOST_HEADERS,
        )
        self.use_key(api_key)

    def use_key(self, api_key: SecretStr) -> None:
        """Use this key from the next call on: a rotation needs no restart."""
        self._session.headers["Authorization"] = f"Bearer {api_key.get_secret_value()}"

    def prepare(self, request: EmailRequest, *, email_id: str, attempt: int, nonce: str) -> Mail:
        """Encode an email with its marks in ``custom_args``."""
        body, is_sandbox = payload.encode(request, email_id=email_id, attempt=attempt, nonce=nonce, sender=self._sender)
        return Mail(email_id, body, is_sandbox)

    async def send(self, mail: Mail, gate: Gate | None = None) -> Answer:
        """Make one call. Raises only when it is cancelled, or what the gate raises."""
        body = _Body(mail, gate, self._deadlines)
        response: aiohttp.ClientResponse | None = None
        explanation = bytearray()
        try:
            async with body.deadline:
                response = await self._session.request("POST", self._url, data=body, allow_redirects=False)
                if not response.content.at_eof():
                    await self._read(response, explanation, body.deadline)
        except Exception as error:  # whatever the network or the parser did: it is an answer, never an exception
            if body.gate_error is not None:
                raise body.gate_error from None
            if response is None:
                return _without_response(error, body)
            # The code is known and decides; that its body did not come whole changes nothing.
        finally:
            if response is not None:
                response.close()
        return _responded(response, bytes(explanation), is_sandbox=mail.is_sandbox)

    async def probe(self, sender: str | None = None) -> Answer:
        """A sandbox request with the key, from ``sender`` or the configured one: 200 when both are in order."""
        if (address := sender or self._sender) is None:
            raise WrongSettings("MAILSTREAM_SENDER is not set: a probe needs an address to send from")
        return await self.send(Mail("probe", payload.encode_probe(address), is_sandbox=True))

    async def close(self) -> None:
        """End all connections; calls under way are cut off."""
        await self._session.close()

    async def _read(self, response: aiohttp.ClientResponse, explanation: bytearray, deadline: asyncio.Timeout) -> None:
        """Read the answer's body to its end, its limit or the deadline, whichever is first."""
        soonest = asyncio.get_running_loop().time() + self._deadlines.explanation
        deadline.reschedule(min(deadline.when() or soonest, soonest))
        while len(explanation) < LONGEST_ANSWER_BYTES:
            if not (piece := await response.content.read(LONGEST_ANSWER_BYTES - len(explanation))):
                return
            explanation += piece


def _without_response(error: Exception, body: _Body) -> Answer:
    """What it proves that a call ended without an answer. The order matters: ClientConnectorError is a ClientOSError."""
    kind = type(error).__name__
    if body.is_withheld:
        return Withheld()
    match error:
        case aiohttp.ClientConnectorDNSError():
            return NeverLeft("the provider's name was not found")
        case aiohttp.ClientSSLError():
            return NeverLeft("no trusted TLS connection to the provider")
        case aiohttp.ClientConnectorError():
            return NeverLeft("the provider could not be reached")
        case aiohttp.ConnectionTimeoutError():
            return NeverLeft("the provider could not be reached in time")
        case _ if not body.has_left:
            return NeverLeft(f"the connection was lost before the request ({kind})")
        case TimeoutError():
            return TimedOut("no answer in time")
        case aiohttp.ClientResponseError():
            return Garbled("the answer was no HTTP")
        case aiohttp.ClientError() | OSError():
            return CutOff(f"the connection was lost before the answer ({kind})")
        case _:
            log.error("provider_call_broke", error=kind)  # only its name: texts may quote what was sent
            return Garbled(f"the answer could not be read ({kind})")


def _responded(response: aiohttp.ClientResponse, explanation: bytes, *, is_sandbox: bool) -> Responded:
    headers = response.headers
    message_id = headers.get("X-Message-Id")
    return Responded(
        http_status=response.status,
        message_id=message_id if message_id is not None and _MESSAGE_ID.fullmatch(message_id) else None,
        reason=None if response.status == 202 else reason_in(explanation),
        is_sandbox=is_sandbox,
        hints=RateHints(headers.get("X-RateLimit-Reset"), headers.get("Retry-After"), headers.get("Date"))
        if response.status == 429
        else None,
    )


def reason_in(explanation: bytes) -> str | None:
    """The provider's words in an error body, on one line, without addresses, keys and control characters.

    None when the body is not SendGrid's JSON: an HTML page explains nothing.
    """
    if not explanation:
        return None
    try:
        errors = _errors.decode(explanation).errors
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    said = []
    for error in errors[:5]:
        if isinstance(error.message, str) and error.message:
            has_field = isinstance(error.field, str) and error.field not in ("", "null")
            said.append(f"{error.field}: {error.message}" if has_field else error.message)
    text = _CONTROL.sub(" ", "; ".join(said)[: 4 * _LONGEST_REASON])
    text = _ADDRESS.sub("[address]", _KEY.sub("[key]", text)).strip()
    return text[:_LONGEST_REASON] or None
