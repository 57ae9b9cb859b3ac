"""Who is told of which status changes: the endpoints of ``MAILSTREAM_WEBHOOKS_FILE``."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from standardwebhooks import Webhook

from mailstream.domain.errors import WrongEndpoints
from mailstream.domain.status import Status, is_final
from mailstream.settings import Settings


class Endpoint(BaseModel):
    """One address that is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="part of its consumer group: do not change it")
    url: str = Field(max_length=2000)
    secrets: Annotated[list[str], Field(min_length=1, max_length=3)] = Field(
        description="files in MAILSTREAM_SECRETS_DIR, each with a whsec_…; several during a rotation"
    )
    tenant: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    statuses: frozenset[Status] = frozenset(status for status in Status if is_final(status))


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    endpoints: list[Endpoint] = Field(min_length=1)


def load(settings: Settings) -> list[tuple[Endpoint, list[Webhook]]]:
    """The endpoints and what signs for each: one key for every secret. Raises WrongEndpoints with one line per mistake."""
    if settings.webhooks_file is None:
        raise WrongEndpoints("MAILSTREAM_WEBHOOKS_FILE names no file with endpoints")
    path = Path(settings.webhooks_file)
    try:
        checked = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise WrongEndpoints(f"{path}: cannot be read ({type(error).__name__})") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise WrongEndpoints(f"{path}: is not valid YAML") from None
    except ValidationError as error:
        raise WrongEndpoints("\n".join(_line(path, mistake) for mistake in error.errors(include_input=False))) from None
    found, mistakes, names = [], [], Counter(endpoint.name for endpoint in checked.endpoints)
    for endpoint in checked.endpoints:
        if mistake := _mistake_in(endpoint.url, is_dev=settings.dev):
            mistakes.append(f"{endpoint.name}: {mistake}")
        try:
            found.append((endpoint, [_key(settings, name) for name in endpoint.secrets]))
        except WrongEndpoints as error:
            mistakes.append(f"{endpoint.name}: {error}")
    mistakes += [f"{name}: two endpoints have this name" for name, count in names.items() if count > 1]
    if mistakes:
        raise WrongEndpoints("\n".join(mistakes))
    return found


def _mistake_in(url: str, *, is_dev: bool) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "its url cannot be read"
    if parts.scheme != "https" and not (is_dev and parts.scheme == "http"):
        return "its url must begin with https://"
    if not parts.hostname or parts.username or parts.password or port == 0:
        return "its url must name a host, and no user"
    return None


def _key(settings: Settings, name: str) -> Webhook:
    if settings.secrets_dir is None:
        raise WrongEndpoints("secrets are files in MAILSTREAM_SECRETS_DIR, which is not set")
    if "/" in name or name.startswith("."):
        raise WrongEndpoints("a secret is named by its file, without a folder")
    try:
        secret = (Path(settings.secrets_dir) / name).read_text(encoding="utf-8").strip()
        key = Webhook(secret)
    except Exception:  # of any kind: its text may be the secret
        raise WrongEndpoints(f"the secret {name} is missing, or is not a whsec_… of Standard Webhooks") from None
    if len(secret) < 32:
        raise WrongEndpoints(f"the secret {name} is shorter than 24 bytes")
    return key


def _line(path: Path, mistake: Any) -> str:
    place = ".".join(str(part) for part in mistake["loc"]) or "the file"
    return f"{path.name}: {place}: {mistake['msg']}"
