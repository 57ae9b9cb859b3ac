"""Render in a process of its own, which ends when a mail takes too long: no template can hold the loop that asks."""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mailstream.domain.errors import TemplateError
from mailstream.domain.topics import MIB
from mailstream.templates.catalog import Rendered
from mailstream.templates.render_child import CPU_SECONDS

#: Wall time after which a process that neither answers nor dies is killed: it may be stopped. Its start is counted, too.
ANSWER_SECONDS = 30.0
#: How often a mail is asked for when the process ends for no fault of the mail.
TRIES = 3

#: An answer is 2 MiB at most, and JSON may need six bytes for one.
LINE_BYTES = 16 * MIB

_answer: "msgspec.json.Decoder[Rendered | str]" = msgspec.json.Decoder(Rendered | str)


class RenderProcess:
    """Templates of one folder, behind a process that is started when it is first asked.

    A template that was stopped once is rendered in a second process from then on, so that others do not wait for it.
    """

    def __init__(self, folder: Path | str | None, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Without a folder every template is missing."""
        self._has_folder = folder is not None
        self._usual, self._apart = _Line(str(folder), answer_seconds), _Line(str(folder), answer_seconds)
        self._stopped: set[str] = set()  #: names of templates that took too long

    async def render(self, name: str, data: Mapping[str, Any], locale: str | None = None) -> Rendered:
        """As ``Templates.render``. Raises TemplateError, also when the mail takes more than 200 ms of CPU or 512 MiB."""
        if not self._has_folder:
            raise TemplateError("no templates are configured here: MAILSTREAM_TEMPLATES_DIR is not set")
        try:
            ask = msgspec.json.encode((name, data, locale)) + b"\n"
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise TemplateError(
                f"template {name}: data has something other than text, numbers, lists and objects"
            ) from None
        tries = 0
        while tries < TRIES:  # a process may end for what the mail is not at fault: the system's memory, a stop
            try:
                answer = await (self._apart if name in self._stopped else self._usual).ask(ask)
            except TimeoutError:
                self._stopped.add(name)
                told = f"template {name}: rendering took more than {CPU_SECONDS * 1000:.0f} ms and was stopped"
                raise TemplateError(told) from None
            except ConnectionError:
                tries += 1
                continue
            if isinstance(answer, Rendered):
                return answer
            if answer is not None:
                raise TemplateError(answer)
        raise TemplateError(f"template {name}: the process that renders ended {TRIES} times, or gave no answer")

    async def reload(self) -> None:
        """Read the folder again, for the next mail."""
        self._stopped.clear()
        await asyncio.gather(self._usual.end(), self._apart.end())

    async def close(self) -> None:
        """End the processes, and cancel what waits for them."""
        await asyncio.gather(self._usual.close(), self._apart.close())


_Answer = Rendered | str | None


class _Line:
    """One process, and what it is asked, in order. Its answers come in the same order."""

    def __init__(self, folder: str, answer_seconds: float) -> None:
        self._folder, self._answer_seconds = folder, answer_seconds
        self._child: asyncio.subprocess.Process | None = None
        self._waiting: deque[tuple[bytes, asyncio.Future[_Answer]]] = deque()
        self._reader: asyncio.Task[None] | None = None  #: as long as anything waits

    async def ask(self, line: bytes) -> _Answer:
        """A mail, or why there is none; None: the process ended over what was asked before.

        Raises TimeoutError when this mail took too long, ConnectionError when the process ended over it otherwise.
        """
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((line, answer))
        if self._child is not None:
            _write(self._child, line)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        return await answer

    async def end(self) -> int | None:
        """Kill the process; the next ask starts another. Returns how it ended."""
        child, self._child = self._child, None
        if child is None:
            return None
        if child.returncode is None:
            child.kill()
        return await child.wait()

    async def close(self) -> None:
        """End the process, and cancel what waits."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self.end()

    async def _read(self) -> None:
        """Take answers until none is due. When the process ends, all that waits is told so."""
        try:
            child = self._child or await self._started()
            assert child.stdout is not None
            while self._waiting:
                async with asyncio.timeout(self._answer_seconds):
                    answer = _answer.decode(await child.stdout.readline())  # no line at its end
                _, asked = self._waiting.popleft()
                if not asked.done():  # else it was given up
                    asked.set_result(answer)
        except (OSError, ValueError):  # no answer, none in time, or no process could be started
            ended = await self.end()
            _, first = self._waiting.popleft()
            if not first.done():
                first.set_exception(TimeoutError() if ended == -signal.SIGPROF else ConnectionError())
            for _, asked in self._waiting:
                if not asked.done():
                    asked.set_result(None)
        finally:
            self._reader = None
            for _, asked in self._waiting:
                asked.cancel()  # does nothing to those that were told
            self._waiting.clear()

    async def _started(self) -> asyncio.subprocess.Process:
        # no variable of ours: what gets out of the sandbox finds no secret
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self._child = child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mailstream.templates.render_child", self._folder, env=kept,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=LINE_BYTES,
        )  # fmt: skip
        for line, _ in self._waiting:
            _write(child, line)
        return child


def _write(child: asyncio.subprocess.Process, line: bytes) -> None:
    assert child.stdin is not None
    if not child.stdin.is_closing():  # else it has ended, and its reader tells all that wait; uvloop raises at a write
        child.stdin.write(line)
