"""Requests that are made from the OpenAPI document, right ones and wrong ones, get what the document says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailstream.settings import Settings
from tests.support.mail_system import MailSystem
from tests.support.processes import Programs

CONFIG = Path(__file__).parent / "schemathesis.toml"
#: More in the long run: SCHEMATHESIS_EXAMPLES=200.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "5")
#: Streams have no end that it would wait for; they have tests of their own.
STREAMS = r"/events$|/stream$"


@pytest.mark.timeout(600)
def test_every_check_of_schemathesis_passes(programs: Programs, settings: Settings, tmp_path: Path) -> None:
    api = MailSystem(programs, settings, send_gap=0).start().api  # with a worker, which decides cancels at once
    assert api is not None

    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis", "--config-file", CONFIG, "run", f"{api.url}/openapi.json",
            "--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES,
            "--exclude-path-regex", STREAMS, "--header", "Authorization: Bearer dev", "--request-timeout", "30",
            "--suppress-health-check", "all", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=580,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-6000:]
