"""The file of the statuses: gone with its process, and a disk that does not do its part is told once, to what ends it."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest
from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.errors import NoScratch
from mailstream.settings import Settings
from streams.statuses import store
from tests.support.builders import ID, a_status
from tests.support.tables import a_table


def test_the_file_has_no_name_so_that_nothing_is_left_of_it(tmp_path: Path) -> None:
    table = a_table(Mock(), data_dir=tmp_path)
    table.remember(a_status(), codec.encode(a_status()))

    assert list((tmp_path / "scratch").iterdir()) == []
    table.data.close()


def test_a_folder_that_cannot_be_made_is_told_with_the_setting_that_moves_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(NoScratch, match=r"MAILSTREAM_DATA_DIR .*") as told:
        store.try_out(Settings(data_dir=str(tmp_path / "file"), _env_file=None))

    assert "Not a directory" in str(told.value)
    assert "Nothing is lost" in str(told.value)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_joined() -> None:
    with pytest.raises(
        NoScratch, match=r"\[Errno \d+\] (Operation not permitted|Permission denied|Read-only file system)"
    ):
        store.try_out(Settings(data_dir="/sys/mailstream", _env_file=None))


def test_a_full_disk_ends_the_worker_and_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_RECENT", 10)

    def failed(error: BaseException) -> None:
        told.append(error)
        table.app.has_failed = True

    told: list[BaseException] = []
    table = a_table(Mock(), data_dir=tmp_path, failed=failed)
    table.data._run("PRAGMA max_page_count = 20")

    def fill() -> None:
        for n in range(1000):
            table.data[f"{ID}{n}"] = structs.replace(a_status(), id=f"{ID}{n}", reference=os.urandom(500).hex())

    for _ in range(2):
        with pytest.raises(NoScratch, match="full"):
            fill()

    assert len(told) == 1, "callbacks of the loop swallow what is raised in them"
    table.data.close()
