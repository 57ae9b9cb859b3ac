"""A worker that takes what its memory knows for durable: ``python -m tests.support.credulous_worker worker``.

It is the real worker but for that: a record that is read again, and changes nothing any more, is acknowledged at once, though
the status that it led to may not be written yet. The history checker must find what is lost.
"""

from collections.abc import Callable

from cli.main import main
from streams.statuses.table import StatusTable


def believe(self: StatusTable, email_id: str, then: Callable[[], None]) -> None:
    """Memory knows it: that is enough."""
    then()


if __name__ == "__main__":
    StatusTable.when_durable = believe  # type: ignore[method-assign]
    main()
