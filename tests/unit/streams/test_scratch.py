"""The scratch file: gone with its process, and when the disk does not do its part it says so once, to whoever ends it."""

from pathlib import Path

import pytest

from mailstream.errors import NoScratch
from streams.cold_statuses import ColdStatuses
from streams.scratch import Scratch


def test_the_file_has_no_name_so_that_nothing_is_left_of_it(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", failed=pytest.fail)
    ColdStatuses(scratch).put([("em_1", 0, b"packed")])

    assert list((tmp_path / "scratch").iterdir()) == []
    scratch.close()


def test_a_folder_that_cannot_be_made_is_told_with_the_setting_that_moves_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(NoScratch, match=r"MAILSTREAM_DATA_DIR .*") as told:
        Scratch(tmp_path / "file" / "scratch", failed=pytest.fail)

    assert "Not a directory" in str(told.value)
    assert "Nothing is lost" in str(told.value)


def test_a_full_disk_ends_the_worker_and_is_told_once(tmp_path: Path) -> None:
    told: list[BaseException] = []
    scratch = Scratch(tmp_path, failed=told.append)
    statuses = ColdStatuses(scratch)
    scratch.execute("PRAGMA max_page_count = 20")

    for _ in range(2):
        with pytest.raises(NoScratch, match="full"):
            statuses.put((f"em_{n}", 0, bytes(1000)) for n in range(100))

    assert len(told) == 1, "callbacks of the loop swallow what is raised in them"
    scratch.close()
