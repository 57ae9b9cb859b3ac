"""The process that renders: reads an ask on stdin, writes a mail or a mistake on stdout, until stdin ends.

``python -m mailstream.render_child FOLDER``, started by ``render_process``. Not threads and no time-out in Python: the
sandbox of Jinja bounds neither time nor memory, and a loop in C hears no signal handler. Here the kernel kills.
"""

import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from mailstream.errors import TemplateError
from mailstream.templates import Rendered, Templates

#: CPU seconds of one mail. Not wall time: a busy machine must not look like a slow template.
CPU_SECONDS = 0.2
MEMORY_BYTES = 512 * 1024 * 1024
LENGTH_BYTES = 4


class Ask(msgspec.Struct, array_like=True):
    """What to render."""

    name: str
    data: dict[str, object]
    locale: str | None
    version: int | str | None


class Mistake(msgspec.Struct, tag="mistake"):
    """Why there is no mail; the text of a TemplateError."""

    told: str


class Mail(msgspec.Struct, tag="mail"):
    """A rendered mail."""

    subject: str
    text: str | None
    html: str | None


encoder = msgspec.msgpack.Encoder()
_ask = msgspec.msgpack.Decoder(Ask)


def serve(folder: str, asks: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there is nothing more to read."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    templates = Templates(folder)
    while length := asks.read(LENGTH_BYTES):
        ask = _ask.decode(asks.read(int.from_bytes(length, "big")))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF is not handled: it ends the process, in C code too
        answer = encoder.encode(_answer(templates, ask))
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(len(answer).to_bytes(LENGTH_BYTES, "big") + answer)
        answers.flush()


def _answer(templates: Templates, ask: Ask) -> Mail | Mistake:
    try:
        mail: Rendered = templates.render(ask.name, ask.data, locale=ask.locale, version=ask.version)
    except TemplateError as error:
        return Mistake(str(error))
    except MemoryError:
        return Mistake("rendering needs too much memory")
    return Mail(mail.subject, mail.text, mail.html)


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
