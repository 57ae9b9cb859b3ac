"""A disk that can be filled to its last byte, and emptied again: memory, mounted for the length of a block."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PIECE = bytes(64 * 1024)


class SmallDisk:
    """What stands on it, and how much of it is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for piece in (PIECE, PIECE[:4096], PIECE[:1]):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(piece)

    def make_room(self) -> None:
        """Take away what filled it."""
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, *, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount one there. Skips the test where that is not allowed."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(
            f"A disk of {mebibytes} MiB cannot be mounted here (run as root, on Linux): {mounted.stderr.strip()}"
        )
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
