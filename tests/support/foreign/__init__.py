"""Programs that nobody here wrote, in the languages of other teams: each is skipped where its tools are missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from dev.kafka import java as jvm
from mailstream.domain.errors import NoKafka
from tests.support.broker import JARS, ROOT

HERE = Path(__file__).parent
EXAMPLES = ROOT / "examples"
#: Where what they need is fetched to, once per checkout.
FETCHED = ROOT / ".mailstream" / "foreign"
SECONDS = 300


def write_with_java(bootstrap: str, topic: str, records: Mapping[str, str]) -> None:
    """Kafka's own client, from the jars of the broker."""
    java = jvm.find_java()
    if java is None or shutil.which("javac") is None:
        pytest.skip(f"no JDK {jvm.LEAST_JAVA}+: install one to run Kafka's own client")
    try:
        jvm.fetch_jars(JARS)
    except (NoKafka, FileNotFoundError):
        pytest.skip("Kafka's jars cannot be fetched: install Maven")
    _run([java, "-cp", f"{JARS}/*", str(HERE / "java" / "Produce.java"), bootstrap, topic], records)


def write_with_kafkajs(bootstrap: str, topic: str, records: Mapping[str, str]) -> None:
    """kafkajs, from npm."""
    _run(["node", str(node_folder() / "produce.js"), bootstrap, topic], records)


def write_with_franz_go(bootstrap: str, topic: str, records: Mapping[str, str]) -> None:
    """franz-go, from the module proxy of Go."""
    if shutil.which("go") is None:
        pytest.skip("no Go: install it to run franz-go")
    program = FETCHED / "franz-go"
    program.parent.mkdir(parents=True, exist_ok=True)
    _run(["go", "build", "-o", str(program), "."], folder=HERE / "go")
    _run([str(program), bootstrap, topic], records)


@contextmanager
def following_status(language: str, bootstrap: str, group: str, topic: str) -> Iterator[IO[str]]:
    """What the example consumer in this language prints, while it runs."""
    command = [sys.executable, str(EXAMPLES / "follow_status.py")]
    if language == "node":
        shutil.copy(EXAMPLES / "follow_status.js", node_folder())
        command = ["node", str(node_folder() / "follow_status.js")]
    with subprocess.Popen([*command, bootstrap, group, topic], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def node_folder() -> Path:
    """A folder with our scripts for Node.js and the packages that they need."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js with npm: install it to run kafkajs and the AsyncAPI parser")
    folder, lock = FETCHED / "node", (HERE / "node" / "package-lock.json").read_bytes()
    done = folder / "done"
    if not done.exists() or done.read_bytes() != lock:
        shutil.copytree(HERE / "node", folder, dirs_exist_ok=True)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder=folder)
        done.write_bytes(lock)
    for script in (HERE / "node").glob("*.js"):
        shutil.copy(script, folder)
    return folder


def _run(command: list[str], records: Mapping[str, str] | None = None, *, folder: Path | None = None) -> None:
    lines = "".join(f"{key}\t{value}\n" for key, value in (records or {}).items())
    done = subprocess.run(
        command,
        input=lines,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}\n{done.stderr}"
