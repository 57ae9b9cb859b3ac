"""A worker that a failpoint ends: ``python -m tests.support.armed_worker C7 needle [SIGSTOP]``.

It is the real worker. As soon as an email whose id contains the needle ("*": any) comes to the point, the process sends
itself the signal, SIGKILL unless another one is named.
"""

import signal
import sys

from cli.main import main
from streams.failpoints import arm

#: Every point, in the order in which an email passes them.
#: C5b: a digest's other emails have ended in favour of the claimed one.
POINTS = (*(f"C{number}" for number in range(14)), "C5b")


def armed(point: str, needle: str, number: signal.Signals = signal.SIGKILL) -> tuple[str, ...]:
    """Module and arguments of such a worker."""
    assert point in POINTS, f"there is no point {point}"
    return __spec__.name, point, needle, number.name


if __name__ == "__main__":
    _, point, needle, *number = sys.argv
    arm(point, needle, signal.Signals[number[0]] if number else signal.SIGKILL)
    sys.argv[1:] = ["worker"]
    main()
