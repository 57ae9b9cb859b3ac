"""One-click unsubscribe (RFC 8058): the headers of a mail, and the token in them that says whose mail it was.

A token is signed, so that no one can unsubscribe others, and holds all that is needed: it works for as long as the key
is kept, long after the email is forgotten.
"""

import base64
import hashlib
import hmac

import msgspec
from msgspec import structs
from pydantic import SecretStr

from mailstream.domain.recipient import canonical
from mailstream.domain.request import EmailRequest

PATH = "/unsubscribe/"
_SIGNATURE_BYTES = 16
_decode = msgspec.json.Decoder(tuple[str, str]).decode


class Unsubscribe:
    """Makes and reads tokens. Not configured: makes none, believes none."""

    def __init__(self, public_url: str | None, key: SecretStr | None) -> None:
        self._url = public_url.rstrip("/") if public_url else None
        self._key = key.get_secret_value().encode() if key else None

    @property
    def is_configured(self) -> bool:
        """Whether mails can carry the headers."""
        return self._url is not None and self._key is not None

    def filled(self, request: EmailRequest) -> EmailRequest:
        """The request with the headers that it asks for; as it is when it asks for none, or has them already."""
        if not request.unsubscribe or not self.is_configured or "List-Unsubscribe" in request.headers:
            return request
        token = self.token(request.tenant, canonical(request.to.email))
        headers = {
            "List-Unsubscribe": f"<{self._url}{PATH}{token}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
        return structs.replace(request, headers=request.headers | headers)

    def token(self, tenant: str, address: str) -> str:
        """The token of a mail of this tenant to this canonical address."""
        assert self._key is not None
        payload = msgspec.json.encode((tenant, address))
        return _text(payload + _signature(self._key, payload))

    def read(self, token: str) -> tuple[str, str] | None:
        """Tenant and canonical address; None: the token is not one of ours."""
        if self._key is None:
            return None
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            if _text(data) != token:  # the last character has bits to spare
                return None
            payload, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
            if not hmac.compare_digest(signature, _signature(self._key, payload)):
                return None
            return _decode(payload)
        except (ValueError, msgspec.DecodeError):
            return None


def _signature(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, b"unsubscribe" + payload, hashlib.sha256)[:_SIGNATURE_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
