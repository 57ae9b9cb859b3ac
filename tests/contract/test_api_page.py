"""Every example of docs/api.md does what the page shows."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from api import controls
from mailstream.settings import Settings
from tests.support.api import a_server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
CONSOLE = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def commands_of(block: str) -> list[tuple[str, str]]:
    """Each command of a block with the output that the page shows for it: from a line that begins with { or a key."""
    found = []
    for text in block.split("$ ")[1:]:
        begin = re.search(r"(?m)^(?:\{|ms_)", text)
        end = begin.start() if begin else len(text)
        found.append((text[:end].strip(), text[end:].strip()))
    return found


def shows(page: str, real: str) -> bool:
    """Whether the real output is the page's, where ``…`` stands for anything."""
    return re.fullmatch(".*?".join(re.escape(part) for part in page.split("…")), real, re.DOTALL) is not None


@pytest.mark.skipif(not shutil.which("curl"), reason="No `curl`: install it to run the examples of docs/api.md")
async def test_every_command_prints_what_the_page_shows(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "SECONDS", 0.2)  # no worker runs that could decide
    shop = settings.model_copy(update={"sender": "shop@example.com"})
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    async with a_server(shop) as api:
        variables = os.environ | {"PATH": path, "MAILSTREAM_API_KEYS_FILE": str(tmp_path / "keys.yaml"), "ID": ""}
        for command, shown in (each for block in CONSOLE for each in commands_of(block)):
            real = command.replace("http://127.0.0.1:8000", str(api.http.base_url).rstrip("/"))
            done = await asyncio.to_thread(
                subprocess.run, ["bash", "-c", real], env=variables, capture_output=True, text=True, cwd=tmp_path
            )
            assert done.returncode == 0, done.stderr
            assert not shown or shows(shown, done.stdout.strip()), (command, done.stdout)
            if not variables["ID"]:
                variables["ID"] = done.stdout.split('"')[3]


async def test_the_python_of_the_page_runs(settings: Settings) -> None:
    shop = settings.model_copy(update={"sender": "shop@example.com"})
    async with a_server(shop) as api:
        for block in PYTHON:
            code = block.replace("http://127.0.0.1:8000", str(api.http.base_url).rstrip("/"))
            await asyncio.to_thread(exec, code, {})


def test_the_page_has_examples() -> None:
    commands = [command for block in CONSOLE for command, _ in commands_of(block)]

    assert len(commands) >= 7
    assert PYTHON
