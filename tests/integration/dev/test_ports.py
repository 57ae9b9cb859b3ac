"""Ports that are given out before anybody listens there."""

import subprocess
import sys

import pytest

from dev import ports

GIVES_ONE_OUT = "import sys; from dev.ports import free_port; print(free_port(), flush=True); sys.stdin.read()"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can be told without leaving a file")
def test_a_port_that_another_process_has_given_out_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GIVES_ONE_OUT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        taken = int(other.stdout.readline())
        monkeypatch.setattr(ports, "LOWEST", taken)
        monkeypatch.setattr(ports, "HIGHEST", taken + 20)

        assert taken not in {ports.free_port() for _ in range(10)}

        other.communicate("")
