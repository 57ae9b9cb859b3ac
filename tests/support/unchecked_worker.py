"""A worker that starts although a topic takes no records: ``python -m tests.support.unchecked_worker worker``.

It is the real worker, but for its look at the topics. On one broker only a tiny ``max.message.bytes`` makes a topic refuse
all records at once, and with that a worker does not start.
"""

from cli.main import main
from mailstream.kafka import admin

UNCHECKED = (__spec__.name, "worker")

if __name__ == "__main__":
    admin.require = lambda *_: None
    main()
