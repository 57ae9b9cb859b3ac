"""Render in a process of its own that is killed when a mail takes too long: the worker lives (security.md S11)."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mailstream.errors import TemplateError
from mailstream.render_child import CPU_SECONDS, LENGTH_BYTES, Ask, Mail, Mistake, encoder
from mailstream.templates import Rendered

#: Wall time after which a child that neither answers nor dies is killed: it may be stopped, or out of memory.
ANSWER_SECONDS = 10.0

#: How often a mail is asked for when the process ends for no fault of the mail.
TRIES = 3

_answer: "msgspec.msgpack.Decoder[Mail | Mistake]" = msgspec.msgpack.Decoder(Mail | Mistake)


class RenderProcess:
    """Templates of one folder, behind a process. One mail at a time; started when it is first asked."""

    def __init__(self, folder: Path | str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._folder = str(folder)
        self._answer_seconds = answer_seconds
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def render(
        self, name: str, data: Mapping[str, Any], *, locale: str | None = None, version: int | str | None = None
    ) -> Rendered:
        """As ``Templates.render``. Raises TemplateError, also when the mail takes more than 200 ms of CPU or 512 MiB."""
        try:
            ask = encoder.encode(Ask(name, dict(data), locale, version))
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise TemplateError(
                f"template {name}: data has something that is no text, number, list or object"
            ) from None
        for _ in range(TRIES):  # a process may be killed for what it is not at fault: the system's memory, a stop
            if (answer := await self._answered(name, ask)) is not None:
                break
        else:
            raise TemplateError(f"template {name}: the process that renders ended {TRIES} times, or gave no answer")
        if isinstance(answer, Mistake):
            raise TemplateError(answer.told)
        return Rendered(answer.subject, answer.text, answer.html)

    async def _answered(self, name: str, ask: bytes) -> Mail | Mistake | None:
        """None: there was no answer, though the mail did not take too long."""
        async with self._turn:
            child = await self._running()
            try:
                async with asyncio.timeout(self._answer_seconds):
                    return await _asked(child, ask)
            except (asyncio.IncompleteReadError, ConnectionError):
                self._child = None
                if await child.wait() == -signal.SIGPROF:
                    told = f"template {name}: rendering took more than {CPU_SECONDS * 1000:.0f} ms and was stopped"
                    raise TemplateError(told) from None
                return None
            except TimeoutError:
                await self._kill()
                return None
            except BaseException:
                await self._kill()  # its next answer would be that of this ask
                raise

    async def reload(self) -> None:
        """Read the folder again, for the next mail."""
        async with self._turn:
            await self._kill()

    async def close(self) -> None:
        """End the process."""
        await self.reload()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._child is None:
            # no variable of ours: whatever gets out of the sandbox finds no secret
            kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
            self._child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mailstream.render_child", self._folder, env=kept,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        return self._child

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.kill()
            await child.wait()


async def _asked(child: asyncio.subprocess.Process, ask: bytes) -> Mail | Mistake:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(len(ask).to_bytes(LENGTH_BYTES, "big") + ask)
    await child.stdin.drain()
    length = int.from_bytes(await child.stdout.readexactly(LENGTH_BYTES), "big")
    return _answer.decode(await child.stdout.readexactly(length))
