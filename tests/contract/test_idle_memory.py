"""What a process that idles need not hold in memory: what is only for a terminal, for templates, for webhook keys."""

import subprocess
import sys

import pytest

NOT_NEEDED = {"typer", "jinja2", "mrml", "css_inline", "cryptography"}


@pytest.mark.parametrize("side", ["api.server", "streams.worker"])
def test_a_process_begins_without_what_only_some_set_ups_need(side: str) -> None:
    program = f"import sys, cli.main, {side}; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not NOT_NEEDED & set(loaded)
