"""What goes back to a caller of mail/send: SendGrid's answers, or the ones that were ordered."""

import http

import msgspec
from msgspec import Struct

from dev.sendgrid.behaviour import Rule
from dev.sendgrid.shape import Violation

_JSON = (b"content-type", b"application/json")
#: What gateways say in place of SendGrid's JSON, as for 413.
_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


class Answer(Struct, frozen=True):
    """Status, headers and body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def raw_head(self, length: int) -> bytes:
        """Status line and headers as bytes of HTTP/1.1, for whoever writes them slowly."""
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, '')}".encode()]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"content-length: %d" % length, b"", b""])


def accepted(message_id: str) -> Answer:
    """202, an empty body, and the id that events begin with."""
    return Answer(202, ((b"x-message-id", message_id.encode()),))


def sandboxed() -> Answer:
    """200: checked, and nothing queued."""
    return Answer(200)


def refusal(status: int, *mistakes: Violation) -> Answer:
    """An error in SendGrid's shape."""
    return Answer(status, (_JSON,), msgspec.json.encode({"errors": mistakes}))


def page(status: int) -> Answer:
    """An error in a gateway's shape."""
    title = f"{status} {_PHRASES.get(status, '')}"
    return Answer(status, ((b"content-type", b"text/html"),), _PAGE.format(title).encode())


def ordered(rule: Rule, message_id: str | None, now: float) -> Answer:
    """The answer that a rule asks for. ``now``: seconds since 1970."""
    if rule.status < 300:
        plain = accepted(message_id) if message_id is not None else Answer(rule.status)
    elif rule.status in (413, 502, 504):
        plain = page(rule.status)
    else:
        plain = refusal(rule.status, Violation(f"ordered: {_PHRASES.get(rule.status, 'error')}"))
    headers = dict(plain.headers)
    if rule.rate_limit_reset_seconds is not None:
        headers[b"x-ratelimit-limit"] = b"600"
        headers[b"x-ratelimit-remaining"] = b"0"
        headers[b"x-ratelimit-reset"] = b"%d" % (now + rule.rate_limit_reset_seconds)
    for name, value in rule.headers.items():
        if value is None:
            headers.pop(name.lower().encode(), None)
        else:
            headers[name.lower().encode()] = value.encode("latin-1", "replace")
    body = plain.body if rule.body is None else rule.body.encode()
    return Answer(rule.status, tuple(headers.items()), body)
