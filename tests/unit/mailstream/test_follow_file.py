"""What changes on disk while a process runs is used, and what cannot be used is not."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailstream import follow_file as module
from mailstream.domain.errors import WrongSettings
from mailstream.follow_file import follow_file
from tests.support.eventually import eventually


class Followed:
    """A file and a folder that are followed, and what was loaded from them."""

    def __init__(self, folder: Path) -> None:
        self.file, self.folder = folder / "file", folder / "folder"
        self.file.write_text("first")
        self.folder.mkdir()
        self.loads = 0
        self.used: list[list[str]] = []

    def write(self, text: str) -> None:
        """At once: a look between truncation and write would see a third state."""
        other = self.file.with_name("written")
        other.write_text(text)
        other.replace(self.file)

    def load(self) -> list[str]:
        self.loads += 1
        found = [self.file, *sorted(self.folder.rglob("*.txt"))]
        texts = [file.read_text() for file in found if file.exists()]
        if "bad" in texts:
            raise WrongSettings("it is bad")
        return texts

    async def use(self, texts: list[str]) -> None:
        self.used.append(texts)

    async def is_used(self, *texts: str) -> None:
        await eventually(lambda: self.used[-1:] == [list(texts)], within_seconds=5, waiting_for=f"{texts}")


@pytest.fixture
async def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followed]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.005)
    scene = Followed(tmp_path)
    following = asyncio.create_task(follow_file([scene.file, scene.folder], scene.load, scene.use, what="texts"))
    await scene.is_used("first")
    yield scene
    assert not following.done()
    following.cancel()


async def test_each_change_is_loaded_once(followed: Followed) -> None:
    followed.write("second")
    await followed.is_used("second")
    await asyncio.sleep(0.05)
    followed.write("third")
    await followed.is_used("third")

    assert followed.loads == 3


async def test_a_file_that_comes_into_the_folder_or_goes_counts(followed: Followed) -> None:
    inner = followed.folder / "deep" / "inner.txt"
    inner.parent.mkdir()
    inner.write_text("inner")
    await followed.is_used("first", "inner")
    inner.unlink()
    await followed.is_used("first")
    followed.file.unlink()
    await followed.is_used()


async def test_a_file_that_is_replaced_counts_though_its_size_and_time_are_the_same(followed: Followed) -> None:
    """As mounted secrets are."""
    stat, other = followed.file.stat(), followed.file.with_name("other")
    other.write_text("FIRST")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(followed.file)

    await followed.is_used("FIRST")


async def test_what_cannot_be_used_changes_nothing_is_told_once_and_the_next_change_counts(
    followed: Followed, capsys: pytest.CaptureFixture[str]
) -> None:
    followed.write("bad")
    await eventually(lambda: followed.loads == 2, within_seconds=5, waiting_for="the bad file")
    await asyncio.sleep(0.05)
    assert followed.used == [["first"]]
    assert capsys.readouterr().out.count("it is bad") == 1

    followed.write("good")
    await followed.is_used("good")
