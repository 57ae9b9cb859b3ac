"""``Idempotency-Key``: 1 to 255 printable characters, quoted (RFC 8941 string) or bare."""

import re

from starlette.requests import Request

from api.problems import Code, Problem

_BARE = re.compile(r"[!-~]{1,255}")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,510})"')
REPLAYED = {"Idempotent-Replayed": "true"}


def key_of(request: Request) -> str | None:
    """The key that the caller named, if any. Raises Problem 400 when it cannot be one."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    text = values[0].strip()
    found: str | None = None
    if quoted := _QUOTED.fullmatch(text):
        found = re.sub(r'\\(["\\])', r"\1", quoted[1])
    elif not text.startswith('"') and _BARE.fullmatch(text):
        found = text
    if found is None or len(found) > 255 or len(values) > 1:
        raise Problem(Code.BAD_IDEMPOTENCY_KEY, "Send one key of 1 to 255 printable ASCII characters, quoted or bare.")
    return found


def repeats(first: str | None, asked: str) -> bool:
    """True: the key's first request had this fingerprint, as far as it is known. Raises Problem 422: it had another."""
    if first is not None and first != asked:
        raise Problem(
            Code.IDEMPOTENCY_KEY_REUSED,
            "The first request with this Idempotency-Key asked for something else. Nothing new was accepted.",
        )
    return True
