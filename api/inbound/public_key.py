"""A public key of the provider's webhook: ECDSA on P-256.

SendGrid's own helper takes text only and decodes outside its try, so ``cryptography`` is called on the bytes.
"""

import base64
from collections.abc import Callable
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailstream.domain.errors import WrongSettings

_ALGORITHM = ec.ECDSA(SHA256())


def read(text: str, place: int) -> Callable[[bytes, bytes], bool]:
    """Whether the key in this base64 SPKI made a signature of some bytes. Raises WrongSettings, which names its place in the setting, when it is not a P-256 key."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise WrongSettings(f"MAILSTREAM_SENDGRID_WEBHOOK_KEYS: key {place} is not a P-256 public key (base64 SPKI).")
    return partial(_has_signed, key)


def _has_signed(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, _ALGORITHM)
    except (InvalidSignature, ValueError):
        return False
    return True
