"""What ``mailstream send`` and ``status`` have in common: they call the API, and show a timeline."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._options import print_json
from mailstream.domain.errors import NoApi, Refused
from mailstream.domain.status import Status, rank_of
from mailstream.settings import Settings, load

if TYPE_CHECKING:
    import aiohttp

Url = Annotated[str | None, typer.Option(help="of the API; MAILSTREAM_API_HOST and _PORT by default")]
ApiKey = Annotated[
    str | None,
    typer.Option(help="better from MAILSTREAM_API_KEY: a command line is seen by all; with DEV=1 it is `dev`"),
]
#: Seconds between two looks at an email that is not final.
LOOK_SECONDS = 0.3
CALL_SECONDS = 15.0


class Api:
    """The HTTP API, as far as the command line needs it."""

    def __init__(self, session: "aiohttp.ClientSession") -> None:
        self._session = session

    async def ask(self, body: dict[str, Any], idempotency_key: str | None) -> dict[str, Any]:
        """Ask for one email. Raises NoApi, Refused."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return await self._call("POST", "/v1/emails", json=body, headers=headers)

    async def email(self, email_id: str) -> dict[str, Any]:
        """Where an email stands. Raises NoApi, Refused."""
        return await self._call("GET", f"/v1/emails/{email_id}")

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        import aiohttp

        try:
            async with self._session.request(method, path, **arguments) as answer:
                found: dict[str, Any] = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            raise NoApi(
                f"No mailstream API answers at {self._session._base_url}. "
                "Start one with `mailstream dev up`, or name it with --url."
            ) from None
        if not answer.ok:
            raise Refused(_problem(answer.status, found))
        return found


@asynccontextmanager
async def api_at(url: str | None, key: str | None) -> AsyncIterator[Api]:
    """The API to talk to, from the options and the settings."""
    import aiohttp  # other verbs start without it

    settings = load()
    headers = {"Authorization": f"Bearer {key or _key_of(settings)}"}
    base = url or f"http://{settings.api_host}:{settings.api_port}"
    async with aiohttp.ClientSession(
        base, headers=headers, timeout=aiohttp.ClientTimeout(total=CALL_SECONDS)
    ) as session:
        yield Api(session)


def _key_of(settings: Settings) -> str:
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    if settings.dev:
        return "dev"
    raise typer.BadParameter("needs --api-key or MAILSTREAM_API_KEY (with MAILSTREAM_DEV=1 it is `dev`)")


def _problem(http_status: int, problem: dict[str, Any]) -> str:
    """RFC 9457 as lines for people."""
    lines = [f"{problem.get('title', 'Refused')} ({http_status}): {problem.get('detail', 'no reason given')}"]
    lines += [f"{error.get('pointer', '')}: {error.get('detail', '')}" for error in problem.get("errors") or ()]
    return "\n".join(lines)


async def show(api: Api, email_id: str, say: Callable[[str], object]) -> dict[str, Any]:
    """Tell the facts of an email as they come, until it is final, and return it. Raises NoApi, Refused."""
    told: list[str] = []
    while True:
        email = await api.email(email_id)
        new = [line for line in lines_of(email["timeline"]) if line not in told]
        told += new
        for line in new:
            say(line)
        if email["final"]:
            return email
        await asyncio.sleep(LOOK_SECONDS)


async def end_of(api: Api, email_id: str, *, as_json: bool) -> dict[str, Any]:
    """Print an email until it is final, and return it. As JSON only the end is printed. Raises NoApi, Refused."""
    email = await show(api, email_id, (lambda _: None) if as_json else typer.echo)
    if as_json:
        print_json(email)
    return email


def is_success(email: dict[str, Any]) -> bool:
    """Whether the provider has accepted it."""
    return rank_of(Status(email["status"]), 0) >= rank_of(Status.SENT, 0)


def heading(email: dict[str, Any]) -> str:
    """One line about an email: where it stands, and when its turn comes while it waits."""
    line = f"{email['id']} to {email['to']}: {email['status']}"
    if email.get("position") is not None:
        line += f", {email['position']} before it"
    if email.get("estimated_at"):
        line += f", due about {_local(email['estimated_at'])}"
    return line


def lines_of(timeline: list[dict[str, Any]]) -> list[str]:
    """A timeline, one line per fact: local time, status, detail."""
    return [
        f"{_local(fact['at'])}  {fact['status'] or '·':<11}  {fact.get('detail') or ''}".rstrip() for fact in timeline
    ]


def _local(at: str) -> str:
    return f"{datetime.fromisoformat(at).astimezone():%H:%M:%S.%f}"[:-3]
