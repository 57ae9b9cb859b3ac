"""A table of statuses without a broker, on the store that the worker has."""

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import faust

from mailstream.settings import Settings
from streams.faust_guards.settings import STORE
from streams.statuses.table import StatusTable
from tests.support.builders import PARTITIONS


def an_empty_table(settings: Settings, *, failed: Any) -> StatusTable:
    """A table without a writer; its app tells ``failed`` when the disk does not do its part."""
    app = faust.App("test", autodiscover=False, store=f"{STORE}://")
    app.mailstream_settings, app.fail, app.has_failed = settings, failed, False
    return StatusTable(app, name="status", partitions=settings.partitions)


def a_table(publisher: Any, *, data_dir: Path | None = None, failed: Any = None) -> StatusTable:
    """A table that writes by ``publisher``."""
    settings = Settings(partitions=PARTITIONS, data_dir=str(data_dir or tempfile.gettempdir()), _env_file=None)
    table = an_empty_table(settings, failed=failed or Mock())
    table.set_up(publisher, "email.status", PARTITIONS)
    return table
