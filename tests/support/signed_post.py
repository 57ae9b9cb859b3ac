"""Posts signed as SendGrid signs them."""

import base64
import time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_PRIVATE = ec.derive_private_key(0x5EED, ec.SECP256R1())


def public_key_of(key: ec.EllipticCurvePrivateKey) -> str:
    """As SENDGRID_WEBHOOK_KEYS wants it."""
    encoded = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(encoded).decode()


PUBLIC_KEY = public_key_of(_PRIVATE)


def signed(body: bytes, timestamp: int | None = None) -> dict[str, str]:
    """The headers of a post."""
    stamp = str(timestamp if timestamp is not None else int(time.time()))
    signature = _PRIVATE.sign(stamp.encode() + body, ec.ECDSA(SHA256()))
    return {
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
    }
