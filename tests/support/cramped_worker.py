"""A worker with room for a hundred statuses in memory: ``python -m tests.support.cramped_worker worker``.

It is the real worker; nearly all statuses of a backlog are in its file, as of a real one when a million emails wait.
"""

from cli.main import main
from streams.statuses import store

MOST_RECENT, CACHE_KIB = 100, 256

if __name__ == "__main__":
    store.MOST_RECENT, store.CACHE_KIB = MOST_RECENT, CACHE_KIB
    main()
