"""The program ``mailstream``. Data goes to stdout, talk to stderr; exit 0 ok, 1 failed, 2 wrong use."""

import sys
from typing import NoReturn

from mailstream.domain.errors import MailstreamError


def main() -> NoReturn:
    """Run a command; an error of ours is told in its own words, without a stack."""
    try:
        _run(sys.argv[1:])
    except MailstreamError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _run(arguments: list[str]) -> None:
    # API and worker live long, and need nothing of what reads a command line: 10 MB each.
    if arguments == ["api"]:
        from cli.api import api

        api()
    elif arguments == ["worker"]:
        from cli.worker import worker

        worker()
    else:
        from cli.verbs import app

        app()


if __name__ == "__main__":
    main()
