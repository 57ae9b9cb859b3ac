"""Kafka in a container: Apache's image, or one that was built here from the same jars (``build-image.sh``)."""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import docker
import psutil
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import get_docker_host
from testcontainers.core.exceptions import ContainerStartException

from dev.kafka.node import CLUSTER_ID, START_SECONDS, VERSION, Node, takes_records
from mailstream.domain.errors import NotStarted

IMAGE = f"apache/kafka:{VERSION}"
LOCAL_IMAGE = f"local/{IMAGE}"
#: On every container that we start: who runs it, so that the next start can tell whether its parent is gone.
OWNER_LABEL = "mailstream.owner"
DATA = "/var/lib/kafka/data"
DEFAULT_HOST = "unix:///var/run/docker.sock"
#: Longest silence of the engine, and longest pull.
ASK_SECONDS, PULL_SECONDS = 10, 180

# its own reaper is a second image; leftovers are ended by their label
testcontainers_config.ryuk_disabled = True


@contextlib.contextmanager
def engine() -> Iterator[Any | None]:
    """A client of the running engine, or None. Never waits for one."""
    host = get_docker_host() or DEFAULT_HOST
    if host.startswith("unix://") and not _listens(host.removeprefix("unix://")):
        yield None  # without asking the library, which leaves its socket open then
        return
    try:
        client = docker.from_env(timeout=ASK_SECONDS, environment={**os.environ, "DOCKER_HOST": host})
    except (DockerException, OSError):  # OSError: no answer within ASK_SECONDS
        yield None
        return
    with contextlib.closing(client):
        yield client


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def image_there(client: Any) -> str | None:
    """The image that the engine has, Apache's before ours, or None."""
    for image in (IMAGE, LOCAL_IMAGE):
        with contextlib.suppress(ImageNotFound):
            client.images.get(image)
            return image
    return None


def pull(client: Any) -> str | None:
    """Fetch Apache's image; None when no registry can be reached (known at once), or it takes too long."""
    deadline = time.monotonic() + PULL_SECONDS
    name, tag = IMAGE.split(":")
    try:
        for event in client.api.pull(name, tag=tag, stream=True, decode=True):
            if "error" in event or time.monotonic() > deadline:
                return None
    except (DockerException, OSError):
        return None
    return image_there(client)


class ContainerBroker:
    """One node in a container of the local engine. With ``volume`` its data outlives the container."""

    def __init__(self, node: Node, image: str, *, name: str | None = None, volume: str | None = None) -> None:
        self.node, self._image, self._name, self._volume = node, image, name, volume
        self._container: DockerContainer | None = None

    @property
    def title(self) -> str:
        """For people: which Kafka, run how."""
        return f"Kafka {VERSION} in a container of {self._image}"

    def start(self) -> None:
        """Start it, or start it again. Raises NotStarted."""
        try:
            if self._container is None:
                self._container = self._make()
                self._container.start()
            else:
                self._container.get_wrapped_container().start()
        except DockerException as error:
            self.close()
            raise NotStarted(f"The container engine could not start {self._image}: {error}") from None

    def wait(self) -> None:
        """Wait until it takes records. Raises NotStarted."""
        deadline = time.monotonic() + START_SECONDS
        while not takes_records(self.node.bootstrap, self.node.id):
            if not self.is_running():
                raise NotStarted(f"Kafka ended while it started. Its last lines:\n{self._last_lines()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"Kafka took no records within {START_SECONDS:g} s. Last lines:\n{self._last_lines()}")
            time.sleep(0.05)

    def is_running(self) -> bool:
        """Whether it runs; a paused one does."""
        if self._container is None:
            return False
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return wrapped.status in ("running", "paused")

    def stop(self) -> None:
        """Stop in order."""
        self._wrapped().stop(timeout=30)

    def kill(self) -> None:
        """As a kill -9."""
        self._wrapped().kill()
        self._wrapped().wait()

    def pause(self) -> None:
        """As a SIGSTOP: connections stay open and nobody answers."""
        self._wrapped().pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._wrapped().unpause()

    def close(self) -> None:
        """Stop in order and remove the container; a named volume stays."""
        if self._container is None:
            return
        with contextlib.suppress(ContainerStartException):  # it could not even be made
            if self.is_running():
                self._wrapped().stop(timeout=30)
        self._container.stop()
        self._container = None

    def _wrapped(self) -> Any:
        assert self._container is not None, "Kafka was not started"
        return self._container.get_wrapped_container()

    def _last_lines(self) -> str:
        return str(self._wrapped().logs(tail=5).decode(errors="replace"))

    def _make(self) -> DockerContainer:
        with engine() as client:
            if client is None:
                raise NotStarted("The container engine has gone.")
            remove_leftovers(client)
            is_host_network = sys.platform == "linux" and "Desktop" not in client.info().get("OperatingSystem", "")
        container = DockerContainer(self._image, name=self._name)
        options: dict[str, Any] = {"labels": {OWNER_LABEL: _owner(os.getpid())}}
        if is_host_network:
            options["network_mode"] = "host"
        else:
            ports = [self.node.port, self.node.proxied.port] if self.node.proxied else [self.node.port]
            container.ports = {f"{port}/tcp": ("127.0.0.1", port) for port in ports}  # on loopback only
        if self._volume:
            container.with_volume_mapping(self._volume, DATA, "rw")
        properties = self.node.properties(DATA, bind="127.0.0.1" if is_host_network else "0.0.0.0")
        for name, value in properties.items():
            container.with_env("KAFKA_" + name.replace(".", "_").upper(), value)
        container.with_env("CLUSTER_ID", CLUSTER_ID).with_env("KAFKA_HEAP_OPTS", "-Xms256m -Xmx512m")
        return container.with_kwargs(**options)


def remove_leftovers(client: Any) -> None:
    """Remove containers of ours whose parent is gone: a kill -9 leaves them running."""
    for container in client.containers.list(all=True, filters={"label": OWNER_LABEL}):
        pid, _, created = container.labels[OWNER_LABEL].partition(" ")
        if not psutil.pid_exists(int(pid)) or _owner(int(pid)) != f"{pid} {created}":
            try:
                container.remove(force=True, v=True)
            except APIError as error:
                if error.status_code not in (404, 409):  # another start has removed it, or is removing it
                    raise


def remove_volume(client: Any, volume: str) -> None:
    """Remove the data of a broker that does not run."""
    with contextlib.suppress(NotFound):
        client.volumes.get(volume).remove()


def _owner(pid: int) -> str:
    """A process, told apart from a later one with the same pid."""
    return f"{pid} {psutil.Process(pid).create_time():.2f}"
