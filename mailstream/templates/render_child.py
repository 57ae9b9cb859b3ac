"""The process that renders: reads an ask on stdin, writes a mail or a mistake on stdout, a line each, until stdin ends.

``python -m mailstream.templates.render_child FOLDER``, started by ``render_process``. Not threads and no time-out in Python: the
sandbox of Jinja bounds neither time nor memory, and a loop in C hears no signal handler. Here the kernel kills. JSON
between the two: only plain values reach the sandbox, so no object has a method that could do something.
"""

import resource
import signal
import sys
from typing import Any, BinaryIO

import msgspec

from mailstream.domain.errors import TemplateError
from mailstream.templates.catalog import Rendered, Templates

#: CPU seconds of one mail. Not wall time: a busy machine must not look like a slow template.
CPU_SECONDS = 0.2
MEMORY_BYTES = 512 * 1024 * 1024

Ask = tuple[str, dict[str, Any], str | None]  #: template, data, locale

_decoder = msgspec.json.Decoder(Ask)


def serve(folder: str, asks: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there is nothing more to read."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    templates = Templates(folder)
    for line in asks:
        ask = _decoder.decode(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF is not handled: it ends the process, in C code too
        answer = msgspec.json.encode(_answer(templates, *ask))
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(answer + b"\n")
        answers.flush()


def _answer(templates: Templates, name: str, data: dict[str, Any], locale: str | None) -> Rendered | str:
    """A mail, or why there is none: the text of a TemplateError."""
    try:
        return templates.render(name, data, locale=locale)
    except TemplateError as error:
        return str(error)
    except MemoryError:
        return "rendering needs too much memory"


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
