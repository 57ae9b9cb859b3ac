"""API keys: a YAML file of callers, of which only sha256 is kept.

Random keys of 256 bits need no slow hash: they cannot be guessed.
"""

import hashlib
import hmac
import os
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import yaml
from limits import parse_many
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from mailstream.domain.errors import WrongSettings
from mailstream.settings import Settings


class Scope(StrEnum):
    """What a key may do; nothing that is not named."""

    SEND = "send"
    READ = "read"
    OPERATE = "operate"  #: sees whole addresses, changes suppressions
    ADMIN = "admin"  #: all of it


class Key(BaseModel):
    """One caller, as it stands in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100, pattern=r"^[ -~]+$", description="for people, logs and timelines")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the key, in hex")
    tenant: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$", description="whose emails it sees")
    scopes: frozenset[Scope] = Field(min_length=1)
    senders: tuple[str, ...] = Field((), description="addresses or @domain; empty: all that SENDERS_ALLOWED allows")
    recipients_allowed: tuple[str, ...] = Field((), description="addresses or @domain; empty: everyone")
    recipients_denied: tuple[str, ...] = ()
    rate: str | None = Field(None, description="requests, as in `100/second; 1000/minute`; none: no limit")
    quota: int | None = Field(None, ge=0, description="recipients a day (UTC) of its tenant; none: no limit")
    quota_per_recipient: int | None = Field(None, ge=0, description="emails a day to one recipient; none: no limit")
    streams: int = Field(5, ge=0, description="event streams that may be open at once, of each API process")
    expires_at: AwareDatetime | None = None

    @field_validator("rate")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_many(value)
            except ValueError:
                raise ValueError("a rate looks like 100/second or 1000 per minute") from None
        return value

    def has(self, scope: Scope) -> bool:
        """Whether the key may do what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[Key, ...] = ()


#: The key of a development system; only with ``DEV=1``.
DEV_KEY = Key(
    name="dev", sha256=hashlib.sha256(b"dev").hexdigest(), tenant="dev", scopes=frozenset(Scope), streams=10_000
)


class Keys:
    """The callers by the hash of their key."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._by_prefix: dict[str, list[Key]] = {}
        self.replace(keys)

    def replace(self, keys: tuple[Key, ...]) -> None:
        """From now on only these."""
        by_prefix: dict[str, list[Key]] = {}
        for key in keys:
            by_prefix.setdefault(key.sha256[:8], []).append(key)
        self._by_prefix = by_prefix

    def find(self, secret: bytes) -> Key | None:
        """The caller with this key, unless it has expired."""
        digest = hashlib.sha256(secret).hexdigest()
        for key in self._by_prefix.get(digest[:8], ()):
            if hmac.compare_digest(key.sha256, digest):
                return None if key.expires_at and key.expires_at <= datetime.now(UTC) else key
        return None


def read_file(path: Path) -> tuple[Key, ...]:
    """The keys that stand in a file. Raises WrongSettings."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        keys = _File.model_validate(found or {}).keys
    except OSError as error:
        raise WrongSettings(f"MAILSTREAM_API_KEYS_FILE: {path} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise WrongSettings(f"MAILSTREAM_API_KEYS_FILE: {path} is not valid YAML.") from None
    except ValidationError as error:
        raise WrongSettings("\n".join(f"{path}: {line}" for line in told(error).splitlines())) from None
    if len({key.sha256 for key in keys}) < len(keys):
        raise WrongSettings(f"{path}: two entries have the same key.")
    return keys


def load(settings: Settings) -> tuple[Key, ...]:
    """The callers of this API. Raises WrongSettings when there is no file and ``DEV`` is not 1."""
    found = read_file(Path(settings.api_keys_file)) if settings.api_keys_file else ()
    if settings.dev:
        return (*found, DEV_KEY)
    if not settings.api_keys_file:
        raise WrongSettings(
            "MAILSTREAM_API_KEYS_FILE is not set, so no caller could use the API. Make a file with `mailstream keys "
            "create`, or set MAILSTREAM_DEV=1 on your own machine: then the key is `dev`."
        )
    return found


def add_to_file(path: Path, key: Key) -> None:
    """Write the file anew with one more key; readers see the old file or the new one, never half of it."""
    keys = (*read_file(path), key) if path.exists() else (key,)
    body = yaml.safe_dump(
        {"keys": [_plain(each) for each in keys]}, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.touch(mode=0o600)
    scratch.write_text(body, encoding="utf-8")
    scratch.replace(path)


def told(error: ValueError) -> str:
    """What is wrong with a key, one line for each mistake, without the values."""
    if not isinstance(error, ValidationError):
        return f"{error}."
    mistakes = error.errors(include_input=False, include_url=False, include_context=False)
    return "\n".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}." for each in mistakes)


def hash_of(secret: str) -> str:
    """What the file keeps of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    """A new random key; shown once, never kept."""
    return f"ms_{secrets.token_urlsafe(32)}"


def _plain(key: Key) -> dict[str, object]:
    plain = key.model_dump(mode="json", exclude_defaults=True)
    plain["scopes"] = sorted(scope.value for scope in key.scopes)
    return plain
