"""Kafka as a Java process: the same jars as in any image, fetched once by Maven.

``python -m dev.kafka.java FOLDER`` only fetches them.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dev.kafka.node import CLUSTER_ID, START_SECONDS, VERSION, Node, takes_records
from dev.process import Process, end_leftover
from mailstream.domain.errors import NoKafka, NotStarted

HERE = Path(__file__).parent
LEAST_JAVA = 17
#: One node for one developer: a quick start counts more than a high rate.
JVM_OPTIONS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Xms256m",
    "-Xmx512m",
    "-XX:-UsePerfData",
    f"-Dlog4j2.configurationFile={HERE / 'log4j2.yaml'}",
)
FETCH_SECONDS = 300


def find_java() -> str | None:
    """The path of a Java that can run Kafka, or None."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        return None
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)  # macOS has a `java` that only says where to get one
    return java if version and int(version[1]) >= LEAST_JAVA else None


def has_jars(folder: Path) -> bool:
    """Whether Kafka's jars have been fetched into the folder."""
    return any(folder.glob(f"kafka_*-{VERSION}.jar"))


def fetch_jars(folder: Path) -> None:
    """Fetch Kafka's jars by Maven, unless they are there: all of them or none. Raises NoKafka."""
    if has_jars(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={Path(scratch).absolute() / 'jars'}"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
        except subprocess.CalledProcessError as error:
            first = next((line for line in error.stdout.splitlines() if line.strip()), "no reason given")
            raise NoKafka(f"Maven could not fetch Kafka {VERSION}: {first}") from None
        except subprocess.TimeoutExpired:
            raise NoKafka(f"Maven did not fetch Kafka {VERSION} within {FETCH_SECONDS} s.") from None
        try:
            (Path(scratch) / "jars").rename(folder)
        except OSError:
            if not has_jars(folder):  # else another process was faster
                raise


class JavaBroker:
    """One node as a child process. ``home`` holds its settings and its data, which stay; ``logs`` is beside it."""

    def __init__(self, node: Node, home: Path, *, java: str, jars: Path, options: Sequence[str] = ()) -> None:
        """``options`` for the JVM come after ours: of two heaps the later counts."""
        self._options = options
        self.node, self._home, self._java, self._jars = node, home.absolute(), java, jars.absolute()
        self._settings, self._data = self._home / "server.properties", self._home / "data"
        self._process = Process(
            "Kafka",
            self._command("kafka.Kafka", str(self._settings)),
            log=self._home.parent / "logs" / f"{home.name}.log",
            pid_file=self._home / "pid",
        )

    @property
    def title(self) -> str:
        """For people: which Kafka, run how."""
        return f"Kafka {VERSION} as a Java process"

    def has_data(self) -> bool:
        """Whether it was started before."""
        return (self._data / "meta.properties").exists()

    def start(self) -> None:
        """Format the data folder when it is new, and start. Raises NotStarted."""
        self._home.mkdir(parents=True, exist_ok=True)
        end_leftover(self._home / "pid")  # before it is asked whether the data is formatted
        properties = self.node.properties(str(self._data))
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        if not self.has_data():
            self._format()
        self._process.start()

    def wait(self) -> None:
        """Wait until it takes records. Raises NotStarted."""
        self._process.wait_until(lambda: takes_records(self.node.bootstrap, self.node.id), seconds=START_SECONDS)

    def is_running(self) -> bool:
        """Whether it runs; a paused one does."""
        return self._process.is_running()

    def stop(self) -> None:
        """Stop in order."""
        self._process.stop()

    def kill(self) -> None:
        """As a kill -9."""
        self._process.kill()

    def pause(self) -> None:
        """As a SIGSTOP: connections stay open and nobody answers."""
        self._process.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._process.resume()

    def close(self) -> None:
        """Stop for good. The data stays: it is in a folder that the caller chose."""
        if self._process.is_running():
            self._process.stop()

    def _format(self) -> None:
        command = self._command("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._settings))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_SECONDS)
        if done.returncode != 0:
            raise NotStarted(f"Kafka could not format {self._data}: {done.stderr.strip() or done.stdout.strip()}")

    def _command(self, *arguments: str) -> list[str]:
        return [self._java, *JVM_OPTIONS, *self._options, "-cp", f"{self._jars}/*", *arguments]


if __name__ == "__main__":
    fetch_jars(Path(sys.argv[1]))
