"""Named places at which a test kills or stops this very process for a named email.

Off, a failpoint is one comparison. Only the tests' own entry point arms one, with ``arm``.
"""

import asyncio
import os
import signal

_point, _needle, _signal = "", "", signal.SIGKILL


def arm(point: str, needle: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal the process at this point, once, as soon as an email whose id contains the needle comes by; "*": any."""
    global _point, _needle, _signal
    _point, _needle, _signal = point, needle, number


def failpoint(name: str, email_id: str) -> None:
    """Die here by SIGKILL, if this point is armed for this email."""
    global _point
    if _point == name and (_needle == "*" or _needle in email_id):
        _point = ""  # who goes on after a SIGSTOP is not stopped again
        os.kill(os.getpid(), _signal)


def failpoint_soon(name: str, email_id: str) -> None:
    """The same in the loop's next round: what this round hands to the producer is produced, not acknowledged."""
    if _point == name:
        asyncio.get_running_loop().call_soon(failpoint, name, email_id)
