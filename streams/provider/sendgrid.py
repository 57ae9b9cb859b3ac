"""The call to SendGrid: one request per call, one deadline, no retry."""

import re
from typing import Any, Final

import msgspec
from pydantic import SecretStr
from yarl import URL

from mailstream.domain.errors import WrongSettings
from mailstream.domain.request import EmailRequest
from streams.core.provider_answer import NeverLeft, ProviderAnswer, RateHints, Responded, Withheld
from streams.failpoints import failpoint
from streams.provider import payload
from streams.provider.connection import Connections, Deadlines, NotConnected, Reply
from streams.provider.port import Gate, Mail

_LONGEST_REASON: Final = 500

_IN_A_HEADER = re.compile(r"[ -~]+")
_MESSAGE_ID = re.compile(r"[!-~]{1,255}")
_ADDRESS = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+")
_KEY = re.compile(r"\bSG\.[\w.-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


class _Error(msgspec.Struct):
    message: Any = None
    field: Any = None


class _Errors(msgspec.Struct):
    errors: list[_Error]


_errors = msgspec.json.Decoder(_Errors)


class SendGrid:
    """Provider port over ``POST /v3/mail/send``. To be made inside a running loop.

    No retry, no redirect, no proxy from the environment, no cookies; certificates are checked.
    """

    def __init__(
        self,
        url: str,
        api_key: SecretStr,
        *,
        sender: str,
        deadlines: Deadlines | None = None,
    ) -> None:
        base = URL(url)
        if base.scheme not in ("http", "https") or not base.host or base.user or base.query_string:
            raise WrongSettings("MAILSTREAM_SENDGRID_URL must be http(s)://host[:port] without user, key or query")
        url_path = (base / "v3/mail/send").raw_path
        self._start = f"POST {url_path} HTTP/1.1\r\nHost: {base.host_port_subcomponent}\r\n"
        self._sender = sender
        self._connections = Connections(
            base.host, base.port or 443, is_tls=base.scheme == "https", deadlines=deadlines or Deadlines()
        )
        self.use_key(api_key)

    def use_key(self, api_key: SecretStr) -> None:
        """Use this key from the next call on: a rotation needs no restart. Raises WrongSettings when it is none."""
        key = api_key.get_secret_value()
        if not _IN_A_HEADER.fullmatch(key):
            raise WrongSettings("MAILSTREAM_SENDGRID_API_KEY has characters that no API key has")
        self._head = (
            f"{self._start}Authorization: Bearer {key}\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
            "Accept-Encoding: identity\r\nUser-Agent: mailstream\r\nContent-Length: "  # its number follows
        ).encode()

    def prepare(self, request: EmailRequest, *, email_id: str, attempt: int, nonce: str) -> Mail:
        """Encode an email with its marks in ``custom_args``."""
        body, is_sandbox = payload.encode(request, email_id=email_id, attempt=attempt, nonce=nonce, sender=self._sender)
        return Mail(email_id, body, is_sandbox)

    async def send(self, mail: Mail, gate: Gate | None = None) -> ProviderAnswer:
        """Make one call. Raises only when it is cancelled, or what the gate raises."""
        try:
            connection = await self._connections.take()
        except NotConnected as error:
            return NeverLeft(str(error))
        try:
            is_free = gate is None or await connection.held_for(gate)
            if connection.is_lost:
                return NeverLeft("the connection was lost before the request")
            if not is_free:
                return Withheld()
            connection.begin(b"%b%d\r\n\r\n%b" % (self._head, len(mail.body), mail.body))
            failpoint("C7", mail.email_id)
            reply = await connection.reply()
        finally:
            self._connections.give_back(connection)
        return _responded(reply, is_sandbox=mail.is_sandbox) if isinstance(reply, Reply) else reply

    async def probe(self, gate: Gate | None = None) -> ProviderAnswer:
        """A sandbox request with the key, from the configured sender: 200 when both are in order."""
        return await self.send(Mail("probe", payload.encode_probe(self._sender), is_sandbox=True), gate)

    async def close(self) -> None:
        """End all connections; calls under way are cut off."""
        self._connections.close()


def _responded(reply: Reply, *, is_sandbox: bool) -> Responded:
    message_id = reply.header(b"x-message-id")
    hints = None
    if reply.code == 429:
        hints = RateHints(reply.header(b"x-ratelimit-reset"), reply.header(b"retry-after"), reply.header(b"date"))
    return Responded(
        http_status=reply.code,
        message_id=message_id if message_id is not None and _MESSAGE_ID.fullmatch(message_id) else None,
        reason=None if reply.code == 202 else reason_in(bytes(reply.body)),
        is_sandbox=is_sandbox,
        hints=hints,
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
