"""A worker with room for a hundred emails in memory: ``python -m tests.support.cramped_worker worker``.

It is the real worker; nearly all of a backlog is in its scratch file, as of a real one when a million emails wait.
"""

from cli.main import main
from streams import scratch, wiring

MOST_HOT, CACHE_KIB = 100, 256

if __name__ == "__main__":
    wiring.HOT_STATUSES = MOST_HOT
    scratch.CACHE_KIB = CACHE_KIB
    main()
