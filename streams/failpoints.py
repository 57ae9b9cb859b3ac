"""Named places at which a test kills this very process for a named email (guarantees §6).

Off, a failpoint is one comparison. Only the tests' own entry point arms one, with ``arm``.
"""

import os
import signal

_point, _needle = "", ""


def arm(point: str, needle: str) -> None:
    """Kill the process at this point as soon as an email whose id contains the needle comes by; "*": any email."""
    global _point, _needle
    _point, _needle = point, needle


def failpoint(name: str, email_id: str) -> None:
    """Die here by SIGKILL, if this point is armed for this email."""
    if _point == name and (_needle == "*" or _needle in email_id):
        os.kill(os.getpid(), signal.SIGKILL)
